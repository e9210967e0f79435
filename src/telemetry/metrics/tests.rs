//! Holds the list to the docs, and to how names are made.

use super::*;

const DOCS: &str = include_str!("../../../docs/telemetry.md");

#[test]
fn table_of_the_docs_is_the_list() {
    let row = |it: &Metric| {
        let kind = format!("{:?}", it.kind).to_lowercase();
        let attributes: Vec<_> = it.attributes.iter().map(|it| format!("`{it}`")).collect();
        let (name, unit, says) = (it.name, it.unit, it.says);
        format!("| `{name}` | {kind} | `{unit}` | {} | {says} |", attributes.join(", "))
    };
    let told: Vec<_> = DOCS.lines().filter(|it| it.starts_with("| `isotherm.")).collect();
    let listed: Vec<_> = METRICS.iter().map(row).collect();
    assert_eq!(told, listed, "the table should be:\n{}", listed.join("\n"));
}

#[test]
fn names_say_no_unit_twice() {
    for it in METRICS {
        assert!(it.name.starts_with("isotherm."), "{}", it.name);
        let name = it.prometheus_name();
        for suffix in ["total", "seconds", "bytes", "ratio"] {
            assert!(!name.contains(&format!("{suffix}_{suffix}")), "{name}");
        }
        assert!(it.unit != "1", "{name} would be a ratio");
    }
}
