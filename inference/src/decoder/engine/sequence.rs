//! One output while it is written.

use tokio::sync::mpsc;

use super::{
    super::{
        grammar::Constraint,
        limits::BLOCK_TOKENS,
        loaded::Facts,
        sampling::{Parameters, StopScanner, sample},
        tokens::TextStream,
        transcript::Transcript,
    },
    Completion, Event, Finish,
    pool::{Key, Pool, key},
};

/// A request on its way to the model's thread.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) prompt: Vec<u32>,
    pub(super) parameters: Parameters,
    pub(super) constraint: Option<Constraint>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) asked: std::time::Instant,
}

/// A request in work.
#[derive(Debug)]
pub(super) struct Sequence {
    request: Request,
    /// The prompt and what was written.
    tokens: Vec<u32>,
    /// Positions that are in the cache.
    read: usize,
    blocks: Vec<u32>,
    /// Keys of the blocks that are full.
    keys: Vec<Key>,
    /// Tokens of the prompt that did not have to be read.
    reused: usize,
    text: TextStream,
    stops: StopScanner,
}

impl Sequence {
    /// Gives a request its blocks; gives the request back when there are not enough now.
    pub(super) fn admit(request: Request, pool: &mut Pool) -> Result<Self, Box<Request>> {
        // The last token is read in any case: its logits are wanted.
        let sharable = (request.prompt.len() - 1) / BLOCK_TOKENS;
        let mut keys: Vec<Key> = Vec::new();
        for tokens in request.prompt.chunks_exact(BLOCK_TOKENS).take(sharable) {
            keys.push(key(keys.last(), tokens));
        }
        let positions = request.prompt.len() + request.parameters.max_tokens;
        let Some((blocks, shared)) = pool.take(&keys, positions.div_ceil(BLOCK_TOKENS)) else {
            return Err(Box::new(request));
        };
        keys.truncate(shared);
        Ok(Self {
            tokens: request.prompt.clone(),
            read: shared * BLOCK_TOKENS,
            blocks,
            keys,
            reused: shared * BLOCK_TOKENS,
            text: TextStream::default(),
            stops: StopScanner::new(request.parameters.stop.clone()),
            request,
        })
    }

    pub(super) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Whether the caller has left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.request.events.is_closed()
    }

    /// Tokens that the model has not read.
    pub(super) fn unread(&self) -> &[u32] {
        &self.tokens[self.read..]
    }

    /// Positions that the model has read.
    pub(super) fn position(&self) -> usize {
        self.read
    }

    /// `count` more tokens are in the cache.
    pub(super) fn advance(&mut self, count: usize, pool: &mut Pool) {
        let of = self.request.prompt.len();
        if self.read < of {
            let tokens = self.read + count;
            let _ = self.request.events.send(Event::Read { tokens, of });
        }
        self.read += count;
        while (self.keys.len() + 1) * BLOCK_TOKENS <= self.read {
            let start = self.keys.len() * BLOCK_TOKENS;
            let key = key(self.keys.last(), &self.tokens[start..start + BLOCK_TOKENS]);
            pool.publish(self.blocks[self.keys.len()], key);
            self.keys.push(key);
        }
    }

    /// Chooses the next token from the logits behind the last one; `true` when the output is
    /// complete and its caller was told.
    pub(super) fn choose(&mut self, logits: &mut [f32], facts: &Facts) -> bool {
        let written = self.tokens.len() - self.request.prompt.len();
        if let Some(constraint) = &mut self.request.constraint {
            constraint.mask(logits, &facts.ends);
        }
        let parameters = &self.request.parameters;
        let Some(token) = sample(logits, parameters, &self.tokens, written) else {
            self.finish(Finish::End, facts);
            return true;
        };
        self.tokens.push(token);
        if facts.ends.contains(&token) {
            self.finish(Finish::End, facts);
            return true;
        }
        if let Some(constraint) = &mut self.request.constraint {
            constraint.push(token);
        }
        let piece = self.text.push(&facts.tokens, token);
        let (shown, stopped) = self.stops.push(&piece);
        self.show(shown);
        if stopped {
            self.complete(Finish::Stop, facts);
            return true;
        }
        if written + 1 == self.request.parameters.max_tokens {
            self.finish(Finish::Length, facts);
            return true;
        }
        false
    }

    /// Shows what was held back, and completes.
    fn finish(&mut self, finish: Finish, facts: &Facts) {
        let rest = self.text.finish(&facts.tokens);
        let (shown, stopped) = self.stops.push(&rest);
        self.show(shown);
        if stopped {
            return self.complete(Finish::Stop, facts);
        }
        let held = self.stops.finish();
        self.show(held);
        self.complete(finish, facts);
    }

    fn complete(&self, finish: Finish, facts: &Facts) {
        let output = self.tokens[self.request.prompt.len()..].to_vec();
        let transcript = Transcript {
            model_hash: facts.model_hash,
            tokenizer_hash: facts.tokenizer_hash,
            profile: facts.profile.clone(),
            parameters: self.request.parameters.clone(),
            prompt: self.request.prompt.clone(),
            output,
        };
        let completion = Completion { finish, reused: self.reused, transcript };
        // A caller that left does not miss it.
        let _ = self.request.events.send(Event::Done(Ok(Box::new(completion))));
    }

    pub(super) fn fail(&self, error: super::GenerateError) {
        let _ = self.request.events.send(Event::Done(Err(error)));
    }

    fn show(&self, text: String) {
        if !text.is_empty() {
            let _ = self.request.events.send(Event::Text(text));
        }
    }
}
