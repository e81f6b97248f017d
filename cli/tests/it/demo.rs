//! `auspex demo` as `make demo` runs it: what it shows, what it writes, and that it leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::world::{eventually, program, running_in, take_turn, world_directory};

const SCHEMA: &str = include_str!("../../../docs/demo-report.md");

#[test]
fn the_demo_shows_three_requests_and_its_report_obeys_the_schema() {
    let _turn = take_turn();
    let directory = world_directory();
    let target = directory.path().join("demo");
    let run = || {
        Command::new(program())
            .args(["demo", "--directory"])
            .arg(&target)
            .stdin(Stdio::null())
            .output()
            .expect("run auspex demo")
    };
    let output = run();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for line in ["funded as", "answer:", "a bystander refunded it", "stopping everything"] {
        assert!(told.contains(line), "{line:?} is not in: {told}");
    }
    let summary = String::from_utf8_lossy(&output.stdout);
    for part in ["Summary", "citation", "signed by", "residue", "request to end", "GraphQL"] {
        assert!(summary.contains(part), "{part:?} is not in: {summary}");
    }
    eventually("nothing runs", || running_in(&target).is_empty().then_some(()));

    let report = std::fs::read_to_string(target.join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let tables = tables();
    assert_eq!(tables.len(), 9, "{:?}", tables.keys());
    let mut read = BTreeSet::new();
    check("The report", &report, &tables, &mut read);
    let described: BTreeSet<String> = tables.keys().cloned().collect();
    assert_eq!(read, described, "every table describes something");
    assert!(SCHEMA.contains(&format!("`{}`", report["schema"].as_str().expect("a schema"))));
    check_what_it_says(&report);

    // A directory that holds something else is not emptied.
    std::fs::remove_file(target.join(".auspex-demo")).expect("remove the mark");
    let refused = run();
    assert!(!refused.status.success());
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("--directory") && error.contains("name another"), "{error}");
    assert!(target.join("report.json").exists());
}

fn check_what_it_says(report: &Value) {
    let requests = report["requests"].as_array().expect("requests");
    let statuses: Vec<_> = requests.iter().map(|request| &request["status"]).collect();
    assert_eq!(statuses, ["settled", "settled", "refunded"]);
    for answered in &requests[..2] {
        assert_eq!(answered["signers"].as_array().map(Vec::len), Some(2), "2 of 3 sign");
        assert_eq!(answered["split"].as_array().map(Vec::len), Some(3));
        assert!(answered["answer"].is_string() && answered["gas"]["deliver"].is_u64());
        assert!(!answered["citations"].as_array().expect("citations").is_empty());
    }
    assert_eq!(requests[2]["refunded"], requests[2]["price"]);
    let history = report["graphql"]["response"]["data"]["requests"].as_array().expect("history");
    assert_eq!(history.len(), requests.len());
    let transactions = report["transactions"].as_array().expect("transactions");
    let whats: Vec<_> = transactions.iter().map(|transaction| &transaction["what"]).collect();
    assert_eq!(
        whats,
        ["request", "deliver", "request", "deliver", "request", "refund", "withdraw"]
    );
}

/// A field's name and type.
type Fields = BTreeMap<String, String>;

/// The document's tables, by their headings.
fn tables() -> BTreeMap<String, Fields> {
    let mut tables: BTreeMap<String, Fields> = BTreeMap::new();
    let mut heading = String::new();
    for line in SCHEMA.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_owned();
        }
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(name), Some(kind)) = (cells.next(), cells.next()) else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else {
            continue;
        };
        tables.entry(heading.clone()).or_default().insert(name.to_owned(), kind.to_owned());
    }
    tables
}

/// An object has the fields of its table, all of them and no others.
fn check(
    name: &str,
    value: &Value,
    tables: &BTreeMap<String, Fields>,
    read: &mut BTreeSet<String>,
) {
    let fields = tables.get(name).unwrap_or_else(|| panic!("no table {name}"));
    read.insert(name.to_owned());
    let object = value.as_object().unwrap_or_else(|| panic!("{name} is no object: {value}"));
    let present: BTreeSet<&String> = object.keys().collect();
    let described: BTreeSet<&String> = fields.keys().collect();
    assert_eq!(present, described, "{name}");
    for (field, kind) in fields {
        let value = &object[field];
        match kind.as_str() {
            "object" => check(field, value, tables, read),
            "array of object" => {
                for element in value.as_array().unwrap_or_else(|| panic!("{field}: {value}")) {
                    check(field, element, tables, read);
                }
            }
            kind => assert!(is(value, kind), "{name}.{field} is not {kind}: {value}"),
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    let hexadecimal = |digits: usize| {
        let text = value.as_str().and_then(|text| text.strip_prefix("0x"));
        text.is_some_and(|t| t.len() == digits && t.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if let Some(kind) = kind.strip_suffix(" or null") {
        return value.is_null() || is(value, kind);
    }
    if let Some(kind) = kind.strip_prefix("array of ") {
        return value.as_array().is_some_and(|all| all.iter().all(|value| is(value, kind)));
    }
    if let Some(kind) = kind.strip_prefix("object of ") {
        return value.as_object().is_some_and(|all| all.values().all(|value| is(value, kind)));
    }
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "hash" => hexadecimal(64),
        "address" => hexadecimal(40),
        "any" => !value.is_null(),
        unknown => panic!("docs/demo-report.md has a type that nobody knows: {unknown}"),
    }
}
