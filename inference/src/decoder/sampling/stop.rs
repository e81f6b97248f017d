//! Stop sequences in text that arrives in pieces.

/// Looks for stop sequences, and holds text back while it could be the beginning of one.
#[derive(Debug, Default)]
pub(crate) struct StopScanner {
    stops: Vec<String>,
    held: String,
}

impl StopScanner {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// The text that may be shown after `piece`, and whether a stop sequence ended it.
    pub(crate) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        if let Some(place) = found {
            self.held.truncate(place);
            return (std::mem::take(&mut self.held), true);
        }
        let mut place = self.held.len();
        for (start, _) in self.held.char_indices() {
            let rest = &self.held[start..];
            if self.stops.iter().any(|stop| stop.starts_with(rest)) {
                place = start;
                break;
            }
        }
        let rest = self.held.split_off(place);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back at the end.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[abé]{0,24}", cut in prop::collection::vec(1_usize..4, 0..24)) {
            let stops = vec!["aba".to_owned(), "éb".to_owned()];
            let mut scanner = StopScanner::new(stops.clone());
            let (mut shown, mut stopped) = (String::new(), false);
            let mut characters = text.chars().peekable();
            let mut sizes = cut.into_iter().cycle();
            while characters.peek().is_some() && !stopped {
                let size = sizes.next().unwrap_or(1);
                let piece: String = characters.by_ref().take(size).collect();
                let (more, stop) = scanner.push(&piece);
                shown.push_str(&more);
                stopped = stop;
            }
            if !stopped {
                shown.push_str(&scanner.finish());
            }
            let first = stops.iter().filter_map(|stop| text.find(stop)).min();
            prop_assert_eq!(stopped, first.is_some());
            prop_assert_eq!(shown, &text[..first.unwrap_or(text.len())]);
        }
    }
}
