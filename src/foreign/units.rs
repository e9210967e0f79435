//! Finds out what a number of time counts, where its Avro schema says so.

use serde_avro_fast::schema::{LogicalType, RegularType, SchemaKey, SchemaMut};

use super::form::Unit;

/// Returns the unit of what lies at the end of a path, if its logical type tells one; of a list, in
/// its items.
pub(super) fn unit_at(schema: &SchemaMut, items: &[String], path: &[String]) -> Option<Unit> {
    let of_item = steps(schema, vec![SchemaKey::root()], items);
    let of_item = of_item.into_iter().flat_map(|it| items_of(schema, it)).collect::<Vec<_>>();
    let inside = find(schema, of_item, path);
    inside.or_else(|| find(schema, vec![SchemaKey::root()], path))
}

fn find(schema: &SchemaMut, from: Vec<SchemaKey>, path: &[String]) -> Option<Unit> {
    let found = steps(schema, from, path);
    let found = found.into_iter().flat_map(|it| variants(schema, it));
    found.filter_map(|it| schema.get(it)?.logical_type.as_ref().and_then(unit_of)).next()
}

fn unit_of(logical: &LogicalType) -> Option<Unit> {
    match logical.as_str() {
        "timestamp-millis" | "local-timestamp-millis" => Some(Unit::Millis),
        "timestamp-micros" | "local-timestamp-micros" => Some(Unit::Micros),
        "timestamp-nanos" | "local-timestamp-nanos" => Some(Unit::Nanos),
        _ => None,
    }
}

/// Follows the names of fields.
fn steps(schema: &SchemaMut, from: Vec<SchemaKey>, path: &[String]) -> Vec<SchemaKey> {
    path.iter().fold(from, |keys, name| {
        let each = keys.into_iter().flat_map(|it| variants(schema, it));
        each.filter_map(|it| field(schema, it, name)).collect()
    })
}

fn field(schema: &SchemaMut, key: SchemaKey, name: &str) -> Option<SchemaKey> {
    let kind = &schema.get(key)?.type_;
    if let RegularType::Map(map) = kind {
        return Some(map.values);
    }
    let RegularType::Record(record) = kind else { return None };
    record.fields.iter().find(|it| it.name == name).map(|it| it.type_)
}

fn items_of(schema: &SchemaMut, key: SchemaKey) -> Vec<SchemaKey> {
    let items = |key| {
        let RegularType::Array(array) = &schema.get(key)?.type_ else { return None };
        Some(array.items)
    };
    variants(schema, key).into_iter().filter_map(items).collect()
}

/// What a union may be; of all else, itself.
fn variants(schema: &SchemaMut, key: SchemaKey) -> Vec<SchemaKey> {
    match schema.get(key).map(|it| &it.type_) {
        Some(RegularType::Union(union)) => union.variants.clone(),
        _ => vec![key],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(items: &str, path: &str, told: Option<Unit>) {
        let path_of = |it: &str| -> Vec<String> {
            it.split('.').filter(|it| !it.is_empty()).map(str::to_owned).collect()
        };
        let text = r#"{"type": "record", "name": "Batch", "fields": [
            {"name": "sent", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "plain", "type": "long"},
            {"name": "reads", "type": ["null", {"type": "array", "items": {
                "type": "record", "name": "Read", "fields": [
                    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
                    {"name": "in", "type": {"type": "record", "name": "In", "fields": [
                        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-nanos"}}]}},
                    {"name": "next", "type": ["null", "Read"]}
                ]}}]}]}"#;
        let schema: SchemaMut = text.parse().unwrap();
        assert_eq!(unit_at(&schema, &path_of(items), &path_of(path)), told, "{items} {path}");
    }

    #[test]
    fn unit_is_found_through_unions_lists_and_names() {
        check("", "sent", Some(Unit::Millis));
        check("", "plain", None);
        check("", "nothing", None);
        check("reads", "at", Some(Unit::Micros));
        check("reads", "in.at", Some(Unit::Nanos));
        check("reads", "next.next.at", Some(Unit::Micros));
        check("reads", "sent", Some(Unit::Millis));
    }
}
