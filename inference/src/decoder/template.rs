//! Chat templates: a conversation as the text that the model was trained on.
//!
//! Templates are Jinja programs that come with a model. They run without access to anything but
//! the conversation, with bounded work. The clock is not given to them, so that a conversation
//! has one prompt.

use std::path::Path;

use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{error::PromptError, files::DecoderFiles, limits::TEMPLATE_BYTES_MAX};
use crate::{error::LoadError, files::ModelFile};

/// Steps of a template; those of published models take some hundred for each message.
const FUEL: u64 = 5_000_000;

/// The name of the one template in its environment.
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or what else the model's template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }

    /// A message that says how to answer.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".to_owned(), content: content.into() }
    }
}

/// A model's chat template with the names of its special tokens.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    begin: Option<String>,
    end: Option<String>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    bos_token: Json,
    #[serde(default)]
    eos_token: Json,
    #[serde(default)]
    chat_template: Json,
}

impl ChatTemplate {
    /// The template of a model directory; `None` when it has none.
    pub(crate) fn of(files: &DecoderFiles) -> Result<Option<Self>, LoadError> {
        let (config, config_path) = match &files.tokenizer_config {
            Some(ModelFile { path, bytes }) => {
                let failed = |reason: String| LoadError::Config { path: path.clone(), reason };
                let config: TokenizerConfig =
                    serde_json::from_slice(bytes).map_err(|error| failed(error.to_string()))?;
                (config, path.as_path())
            }
            None => (TokenizerConfig::default(), Path::new("tokenizer_config.json")),
        };
        let (source, path) = match &files.template {
            Some(file) => (String::from_utf8_lossy(&file.bytes).into_owned(), file.path.as_path()),
            None => match named(&config.chat_template) {
                Some(source) => (source, config_path),
                None => return Ok(None),
            },
        };
        let failed = |reason: String| LoadError::Config { path: path.to_owned(), reason };
        if TEMPLATE_BYTES_MAX < source.len() as u64 {
            return Err(failed(format!(
                "chat_template has {} bytes, the limit is {TEMPLATE_BYTES_MAX}",
                source.len()
            )));
        }
        let environment =
            environment(source).map_err(|error| failed(format!("chat_template: {error}")))?;
        let (begin, end) = (token(&config.bos_token), token(&config.eos_token));
        Ok(Some(Self { environment, begin, end }))
    }

    /// The prompt for what comes after `messages`; `answer` opens the assistant's turn.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        tools: Option<&Json>,
        answer: bool,
    ) -> Result<String, PromptError> {
        let failed = |error: Error| {
            // What `raise_exception` says is in the detail; the kind would only repeat that.
            PromptError::Template(error.detail().map_or_else(|| error.to_string(), str::to_owned))
        };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let optional = |text: &Option<String>| text.clone().map_or(Value::UNDEFINED, Value::from);
        let values = context! {
            messages => messages,
            tools => tools.map_or(Value::from(()), Value::from_serialize),
            add_generation_prompt => answer,
            bos_token => optional(&self.begin),
            eos_token => optional(&self.end),
        };
        template.render(values).map_err(failed)
    }
}

fn environment(source: String) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", |value: Value| python_json(&value));
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// A template on its own, or the one called `default` in a list of named ones.
fn named(value: &Json) -> Option<String> {
    let text = |value: &Json| value.as_str().map(str::to_owned);
    let default = || {
        let list = value.as_array()?;
        let entry = list.iter().find(|entry| entry["name"] == "default")?;
        text(&entry["template"])
    };
    text(value).or_else(default)
}

/// A special token is a string or an object that describes one.
fn token(value: &Json) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// JSON with a space after commas and colons, which is how Python writes it and how models read
/// it in their training.
fn python_json(value: &Value) -> String {
    struct Spaced;
    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: ?Sized + std::io::Write>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            writer.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_key<W: ?Sized + std::io::Write>(
            &mut self,
            writer: &mut W,
            first: bool,
        ) -> std::io::Result<()> {
            writer.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_value<W: ?Sized + std::io::Write>(
            &mut self,
            writer: &mut W,
        ) -> std::io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Spaced);
    // Writing a JSON value into memory cannot fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8(bytes).unwrap_or_default()
}
