//! What binds an output to everything that decided it.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::sampling::Parameters;

/// All that decides an output, and the output: whoever has the model writes the same again.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// The hash of the model's files, see [`Generator::model_hash`](super::Generator::model_hash).
    pub model_hash: [u8; 32],
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_hash: [u8; 32],
    /// How it was computed, such as `cpu-int8-1`: device, storage of the weights, and the version of
    /// the operators. Two machines with the same profile have the same bits, if it begins with `cpu-`.
    /// On a GPU, `wgpu-` and its own name stand in the place of `cpu`, and the driver decides the last
    /// bits as well.
    pub profile: String,
    /// How tokens were chosen, with the seed.
    pub parameters: Parameters,
    /// What was read.
    pub prompt: Vec<u32>,
    /// What was written, the token that ended it included.
    pub output: Vec<u32>,
}

impl Transcript {
    /// SHA-256 of [`text`](Self::text).
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text()).into()
    }

    /// The transcript as lines, each a name, a space and a value:
    /// `auspex-transcript 1`, `model`, `tokenizer` (hashes in lower-case hex), `profile`,
    /// `max_tokens`, `temperature`, `top_k`, `top_p`, `min_p`, `repetition_penalty`, `seed`, one
    /// `stop` for each stop sequence (its UTF-8 in hex), `schema` if there is one (its JSON, in
    /// hex), `prompt`, `output` (token ids, apart by single spaces). Fractions are the eight hex
    /// digits of their IEEE 754 single. Every line ends with a line feed.
    pub fn text(&self) -> String {
        let Parameters {
            max_tokens,
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
            stop,
            schema,
        } = &self.parameters;
        let mut text = "auspex-transcript 1\n".to_owned();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing into a string does not fail.
            let _ = writeln!(text, "{name} {value}");
        };
        let bits = |value: &f32| format!("{:08x}", value.to_bits());
        line("model", &hex::encode(self.model_hash));
        line("tokenizer", &hex::encode(self.tokenizer_hash));
        line("profile", &self.profile);
        line("max_tokens", max_tokens);
        line("temperature", &bits(temperature));
        line("top_k", top_k);
        line("top_p", &bits(top_p));
        line("min_p", &bits(min_p));
        line("repetition_penalty", &bits(repetition_penalty));
        line("seed", seed);
        for stop in stop {
            line("stop", &hex::encode(stop));
        }
        if let Some(schema) = schema {
            line("schema", &hex::encode(schema.to_string()));
        }
        let ids = |ids: &[u32]| {
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            ids.join(" ")
        };
        line("prompt", &ids(&self.prompt));
        line("output", &ids(&self.output));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript() -> Transcript {
        Transcript {
            model_hash: [1; 32],
            tokenizer_hash: [2; 32],
            profile: "cpu-f32-1".to_owned(),
            parameters: Parameters { stop: vec!["é".to_owned()], ..Parameters::default() },
            prompt: vec![5, 6],
            output: vec![7],
        }
    }

    #[test]
    fn the_text_is_as_documented() {
        let expected = format!(
            "auspex-transcript 1\nmodel {}\ntokenizer {}\nprofile cpu-f32-1\nmax_tokens 512\n\
             temperature 00000000\ntop_k 0\ntop_p 3f800000\nmin_p 00000000\n\
             repetition_penalty 3f800000\nseed 0\nstop c3a9\nprompt 5 6\noutput 7\n",
            "01".repeat(32),
            "02".repeat(32),
        );
        assert_eq!(transcript().text(), expected);
        assert_eq!(transcript().hash(), <[u8; 32]>::from(Sha256::digest(expected)));
    }

    #[test]
    fn everything_is_bound() {
        let changes: [fn(&mut Transcript); 13] = [
            |t| t.model_hash[0] = 9,
            |t| t.tokenizer_hash[0] = 9,
            |t| t.profile.push('0'),
            |t| t.parameters.max_tokens = 1,
            |t| t.parameters.temperature = 0.5,
            |t| t.parameters.top_k = 1,
            |t| t.parameters.top_p = 0.5,
            |t| t.parameters.min_p = 0.5,
            |t| t.parameters.repetition_penalty = 0.5,
            |t| t.parameters.seed = 1,
            |t| t.parameters.stop.clear(),
            |t| t.prompt.push(0),
            |t| t.output.push(0),
        ];
        let mut hashes = vec![transcript().hash()];
        for change in changes {
            let mut changed = transcript();
            change(&mut changed);
            assert!(!hashes.contains(&changed.hash()));
            hashes.push(changed.hash());
        }
    }
}
