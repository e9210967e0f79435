//! `[table]`: what the records of the source table are, and what of a row is the index key.

use serde::{Deserialize, Serialize};

/// `[table]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Table {
    pub format: Format,
    /// Files of the Avro schemas by which rows are written, known by their fingerprints.
    pub schemas: Vec<String>,
    /// The same by the ids that a schema registry gave them: `17=orders.avsc`.
    pub schema_ids: Vec<String>,
    /// Of an envelope: paths of the fields that make the index key, as `city` or `address.zip`.
    pub key: Vec<String>,
    /// Of an envelope: paths of the fields that the index returns, as JSON; none: the row.
    pub payload: Vec<String>,
}

/// How a record tells of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As `schemas/table.avsc` says: index key before, index key after, payload.
    #[default]
    RowChanged,
    /// The row before and the row after, as Debezium has them.
    Envelope,
}

impl Table {
    /// Tells (key, reason, remedy) of what does not hold.
    pub(super) fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut res = Vec::new();
        let Self { format, schemas, schema_ids, key, payload } = self;
        let mut unless = |holds: bool, at, reason: &str, remedy| {
            if !holds {
                res.push((at, reason.to_owned(), remedy));
            }
        };
        match format {
            Format::RowChanged => unless(
                key.is_empty() && payload.is_empty(),
                "table.key",
                "records of the format `row_changed` have their key and payload already",
                "take table.key and table.payload out, or set table.format to `envelope`",
            ),
            Format::Envelope => {
                unless(
                    !key.is_empty(),
                    "table.key",
                    "of an envelope, the fields that make the index key must be known",
                    "set it to the paths of fields, such as `[\"city\", \"address.zip\"]`",
                );
                unless(
                    !(schemas.is_empty() && schema_ids.is_empty()),
                    "table.schemas",
                    "of an envelope, the schema of its writer must be known",
                    "set it to the file of that, or table.schema_ids to `17=FILE`",
                );
            }
        }
        unless(
            schema_ids.iter().all(|it| id_and_file(it).is_some()),
            "table.schema_ids",
            "each is the id of a schema, `=`, and the file of it",
            "set it to `[\"17=orders.avsc\"]`",
        );
        res
    }

    /// Returns ids and files of `schema_ids`.
    pub fn files_by_id(&self) -> impl Iterator<Item = (u32, &str)> {
        self.schema_ids.iter().filter_map(|it| id_and_file(it))
    }
}

fn id_and_file(text: &str) -> Option<(u32, &str)> {
    let (id, file) = text.split_once('=')?;
    Some((id.trim().parse().ok()?, file.trim())).filter(|it| !it.1.is_empty())
}
