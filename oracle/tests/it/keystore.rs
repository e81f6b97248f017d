//! Keys: what is written, what is refused, and that nothing of a secret is ever said.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use alloy::primitives::{Address, B256};
use auspex_oracle::keys::file::write_secret;
use auspex_oracle::keys::init::init;
use auspex_oracle::keys::keystore::{KeystoreError, Strength, import, load, raw};
use auspex_oracle::keys::password::{PasswordError, find, from_file};
use auspex_oracle::keys::{ResultSigner, Transmitter};
use secrecy::SecretString;
use tempfile::TempDir;

use crate::scene::chain::key;

/// Searched for in everything that is said.
const CANARY_PASSWORD: &str = "correct-CANARY-battery";
const CANARY_KEY: [u8; 32] = [0xca; 32];

fn password(text: &str) -> SecretString {
    SecretString::from(text)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

fn without_canaries(said: &str) {
    let key = hex::encode(CANARY_KEY);
    for secret in [CANARY_PASSWORD, &key, &key.to_uppercase()] {
        assert!(!said.contains(secret), "a secret was said: {said}");
    }
}

#[test]
fn new_keys_are_encrypted_private_and_come_back() {
    let folder = TempDir::new().expect("a folder");
    let keys = folder.path().join("keys");
    let made = init(&keys, &password("one"), &password("two"), Strength::Light).expect("keys");
    assert_ne!(made.signer, made.transmitter);
    assert_eq!(mode(&keys), 0o700);
    for (path, words, address) in [
        (&made.signer_keystore, "one", made.signer),
        (&made.transmitter_keystore, "two", made.transmitter),
    ] {
        assert_eq!(mode(path), 0o400);
        assert_eq!(load(path, &password(words)).expect("a key").address(), address);
    }
    let again = init(&keys, &password("one"), &password("two"), Strength::Light);
    assert!(matches!(again, Err(KeystoreError::File(_))), "{again:?}");
    let files = fs::read_dir(&keys).expect("a folder").count();
    assert_eq!(files, 2, "nothing is left behind");
}

#[test]
fn a_wrong_password_names_the_file_and_says_nothing_secret() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("signer.json");
    import(&path, &CANARY_KEY, &password(CANARY_PASSWORD), Strength::Light).expect("a keystore");
    let text = fs::read_to_string(&path).expect("the keystore");
    without_canaries(&text);
    let error = load(&path, &password("wrong")).expect_err("refused");
    assert!(matches!(error, KeystoreError::WrongPassword(_)));
    let said = format!("{error} {error:?}");
    assert!(said.contains("signer.json") && said.contains("wrong password"), "{said}");
    without_canaries(&said);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("signer.json");
    import(&path, &CANARY_KEY, &password(CANARY_PASSWORD), Strength::Light).expect("a keystore");
    for open in [0o440, 0o404, 0o644, 0o420] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).expect("chmod");
        let error = load(&path, &password(CANARY_PASSWORD)).expect_err("refused");
        assert!(error.to_string().contains("chmod 0400"), "{error}");
    }
    let secret = folder.path().join("password");
    write_secret(&secret, CANARY_PASSWORD.as_bytes()).expect("a file");
    assert_eq!(mode(&secret), 0o400);
    from_file(&secret).expect("a password");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).expect("chmod");
    let error = from_file(&secret).expect_err("refused");
    without_canaries(&format!("{error} {error:?}"));
}

#[test]
fn a_password_comes_from_its_file_or_from_systemd_and_has_one_line_end_at_most() {
    let folder = TempDir::new().expect("a folder");
    let keystore = folder.path().join("signer.json");
    import(&keystore, &CANARY_KEY, &password(CANARY_PASSWORD), Strength::Light)
        .expect("a keystore");
    let credential = folder.path().join("auspex-signer-password");
    write_secret(&credential, format!("{CANARY_PASSWORD}\n").as_bytes()).expect("a file");

    let found = find("signer", &keystore, None, Some(folder.path())).expect("a password");
    load(&keystore, &found).expect("a key");
    without_canaries(&format!("{found:?}"));
    let found = find("signer", &keystore, Some(&credential), None).expect("a password");
    load(&keystore, &found).expect("a key");

    let empty = folder.path().join("empty");
    write_secret(&empty, b"\n").expect("a file");
    assert!(matches!(from_file(&empty), Err(PasswordError::Empty(_))));
    let missing = find("signer", &keystore, Some(&folder.path().join("none")), None);
    assert!(missing.expect_err("refused").to_string().contains("none"));
}

#[test]
fn a_keystore_of_another_key_or_another_format_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("signer.json");
    import(&path, &CANARY_KEY, &password(CANARY_PASSWORD), Strength::Light).expect("a keystore");
    let text = fs::read_to_string(&path).expect("the keystore");
    let address = hex::encode(key(B256::from(CANARY_KEY)).address());
    let cases = [
        text.replace(&address, &hex::encode(Address::repeat_byte(1))),
        text.replace("\"version\": 3", "\"version\": 4"),
        "{}".into(),
        "not JSON".into(),
        text[..text.len() / 2].into(),
    ];
    for (number, changed) in cases.iter().enumerate() {
        let path = folder.path().join(format!("changed-{number}.json"));
        write_secret(&path, changed.as_bytes()).expect("a file");
        let error = load(&path, &password(CANARY_PASSWORD)).expect_err("refused");
        assert!(
            matches!(error, KeystoreError::OtherKey { .. } | KeystoreError::Format { .. }),
            "{error}"
        );
        let said = format!("{error} {error:?}");
        assert!(said.contains("changed-"), "{said}");
        without_canaries(&said);
    }
}

#[test]
fn a_plain_key_is_for_development_chains_with_the_flag() {
    let text = password(&hex::encode(CANARY_KEY));
    let key = raw("signer", &text, 31337, true).expect("a key");
    for (chain_id, allowed) in [(31337, false), (8453, true), (84532, true)] {
        let error = raw("signer", &text, chain_id, allowed).expect_err("refused");
        without_canaries(&format!("{error} {error:?}"));
    }
    let error = raw("signer", &password("CANARY"), 31337, true).expect_err("refused");
    assert!(!format!("{error} {error:?}").contains("CANARY"));
    without_canaries(&format!("{:?} {:?}", ResultSigner::new(key.clone()), Transmitter::new(key)));
}

#[test]
fn an_operators_keystore_costs_an_attacker_as_much_as_it_should() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("signer.json");
    let words = password(CANARY_PASSWORD);
    let address = import(&path, &CANARY_KEY, &words, Strength::Standard).expect("a keystore");
    let text = fs::read(&path).expect("the keystore");
    let document: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(document["crypto"]["kdfparams"]["n"], 1 << 17);
    assert_eq!(load(&path, &words).expect("a key").address(), address);
}
