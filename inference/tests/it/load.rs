//! Model directories that cannot be used are refused with the name of what is wrong.

use std::{fs, path::Path};

use auspex_inference::{DeviceChoice, EncodeError, Encoder, limits::TEXT_BYTES_MAX};

use crate::model_dir::{cpu, model_dir};

#[test]
fn an_empty_directory_names_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let error = load(dir.path());
    assert!(error.contains("config.json") && error.contains("model.safetensors"), "{error}");
}

#[test]
fn a_configuration_of_another_size_names_the_tensor_and_both_shapes() {
    let dir = copy_of_model();
    edit_config(dir.path(), "intermediate_size", 1024.into());
    let error = load(dir.path());
    assert!(
        error.contains("model.safetensors: tensor \"encoder.layer.0.intermediate.dense.weight\"")
            && error.contains("F32 [1536, 384]")
            && error.contains("F32 [1024, 384]"),
        "{error}"
    );

    edit_config(dir.path(), "intermediate_size", 1536.into());
    edit_config(dir.path(), "num_hidden_layers", 7.into());
    let error = load(dir.path());
    assert!(error.contains("no tensor \"encoder.layer.6.attention.self.query.weight\""), "{error}");
}

#[test]
fn a_vocabulary_that_the_model_does_not_have_is_refused() {
    let dir = copy_of_model();
    edit_config(dir.path(), "vocab_size", 30521.into());
    let error = load(dir.path());
    assert!(error.contains("tokenizer.json: token id 30521 does not fit vocab_size"), "{error}");
}

#[test]
fn a_damaged_file_is_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let dir = copy_of_model();
        let path = dir.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 2);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let error = load(dir.path());
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn another_pooling_is_refused() {
    let dir = copy_of_model();
    fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    fs::write(dir.path().join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#)
        .unwrap();
    let error = load(dir.path());
    assert!(error.contains("1_Pooling/config.json: pooling_mode_cls_token is true"), "{error}");
}

#[test]
fn an_oversized_text_is_refused_with_its_position() {
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    let error = cpu().embed(&["short", &long]).unwrap_err();
    assert!(matches!(error, EncodeError::TextTooLong { index: 1, .. }), "{error}");
    assert!(cpu().count_tokens(&long).is_err() && cpu().token_offsets(&long).is_err());
}

#[test]
fn no_texts_give_no_vectors() {
    assert!(cpu().embed(&[]).unwrap().is_empty());
}

fn load(dir: &Path) -> String {
    Encoder::load(dir, DeviceChoice::Cpu).unwrap_err().to_string()
}

/// A directory with the model's files as links, so that a test can replace one of them.
fn copy_of_model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::os::unix::fs::symlink(model_dir().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn edit_config(dir: &Path, field: &str, value: serde_json::Value) {
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    // The link is replaced, never the file behind it.
    fs::remove_file(&path).unwrap();
    fs::write(&path, config.to_string()).unwrap();
}
