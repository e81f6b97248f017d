//! Where the model lies.

use std::path::PathBuf;

use auspex_inference::{DeviceChoice, Encoder};

/// `AUSPEX_MODEL_DIR`, else `model` under `AUSPEX_TOOLS`, else under `~/.cache/auspex/tools`.
pub(crate) fn model_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dir = variable("AUSPEX_MODEL_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let tools = variable("AUSPEX_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(variable("HOME").unwrap_or_default()).join(".cache/auspex/tools")
        });
        tools.join("model")
    });
    assert!(
        dir.join("model.safetensors").is_file(),
        "no model in {}: run `make setup`, or set AUSPEX_MODEL_DIR to a directory that holds \
         all-MiniLM-L6-v2 (config.json, tokenizer.json, model.safetensors)",
        dir.display()
    );
    dir
}

/// The encoder on the CPU; loading takes a part of a second, so tests share it.
pub(crate) fn cpu() -> &'static Encoder {
    static ENCODER: std::sync::OnceLock<Encoder> = std::sync::OnceLock::new();
    ENCODER.get_or_init(|| Encoder::load(&model_dir(), DeviceChoice::Cpu).unwrap())
}
