//! README says what is true: its commands, copied by hand into a shell, do what it says.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::{World, program};

const README: &str = include_str!("../../../README.md");

/// How each line of "Try it by hand" begins, and what somebody who copies it has to see.
const EXPECTED: [(&str, &[&str]); 9] = [
    ("export PATH=", &[]),
    ("auspex offer list", &["OFFER", "0.001 ETH", "AUSPEX"]),
    ("auspex request submit", &["settled", "answer", "citation", "the quorum signed", "signed by"]),
    ("auspex credit show", &["can withdraw", "ETH"]),
    ("auspex credit withdraw", &["paid 0.0006", "ETH to 0x"]),
    ("auspex agent show", &["Auspex guide", "OFFER"]),
    ("auspex corpus search", &["contracts.md", "refund"]),
    ("auspex operator status", &["owner"]),
    ("auspex operator doctor", &["registration", "membership", "good"]),
];

#[test]
fn the_commands_to_try_by_hand_do_what_readme_says() {
    let world = World::start();
    let offer = world.native_offer();
    // The directory of somebody who has cloned and built, and whose `make dev` runs.
    let clone = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir(clone.path().join("target")).expect("create");
    let programs = Path::new(program()).parent().expect("a folder");
    symlink(programs, clone.path().join("target/debug")).expect("link");
    symlink(world.path(""), clone.path().join("target/dev")).expect("link");

    let lines = by_hand();
    assert_eq!(lines.len(), EXPECTED.len(), "{lines:#?}");
    let mut before = String::new();
    for (line, (beginning, expected)) in lines.iter().zip(EXPECTED) {
        assert!(line.starts_with(beginning), "{line} does not begin with {beginning}");
        let line = line.replace("OFFER", &offer);
        let output = Command::new("bash")
            .args(["-euc", &format!("{before}{line}")])
            .current_dir(clone.path())
            .env_remove("AUSPEX_WORLD")
            .stdin(Stdio::null())
            .output()
            .expect("run bash");
        let (said, told) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line}: {told}");
        for part in expected {
            let part = if *part == "OFFER" { offer.as_str() } else { part };
            assert!(said.contains(part), "{line}: {part:?} is not in:\n{said}\n{told}");
        }
        if line.starts_with("export ") {
            before = format!("{line}\n");
        }
    }
}

#[test]
fn every_command_of_the_table_has_an_example_and_speaks_json() {
    let commands = table_commands();
    assert!(35 < commands.len(), "{commands:?}");
    for command in commands {
        let output = Command::new(program())
            .args(command.split(' ').skip(1))
            .arg("--help")
            .output()
            .expect("run auspex");
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let examples = help.split_once("Example").map(|(_, examples)| examples);
        let examples = examples.unwrap_or_else(|| panic!("{command} has no example: {help}"));
        assert!(examples.contains(&command), "{command} is not in its own example: {help}");
        assert!(help.contains("--json"), "{command}: {help}");
    }
}

/// The lines of the shell block under "Try it by hand".
fn by_hand() -> Vec<String> {
    let (_, section) = README.split_once("## Try it by hand").expect("the section");
    let (_, block) = section.split_once("```\n").expect("a block");
    let (block, _) = block.split_once("\n```").expect("the block's end");
    block.lines().map(str::to_owned).collect()
}

/// `auspex a b|c` in the first column stands for `auspex a b` and `auspex a c`.
fn table_commands() -> Vec<String> {
    let (_, section) = README.split_once("## Commands").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("the section's end");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `auspex"));
    let cells = rows.flat_map(|row| {
        let (cell, _) = row.split_once(" | ").expect("two columns");
        cell.replace("\\|", "/").split(", ").map(str::to_owned).collect::<Vec<_>>()
    });
    cells
        .flat_map(|cell| {
            let cell = cell.replace("`", "");
            let cell = cell.trim().trim_start_matches("auspex ").to_owned();
            let (group, names) = match cell.split_once(' ') {
                Some((group, names)) => (format!("{group} "), names.to_owned()),
                None => (String::new(), cell),
            };
            names.split('/').map(|name| format!("auspex {group}{name}")).collect::<Vec<_>>()
        })
        .collect()
}
