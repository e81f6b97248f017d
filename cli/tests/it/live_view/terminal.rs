//! A terminal: what stands on it after what was sent to it. It knows what the view uses and panics over anything else.

#[derive(Debug)]
pub(super) struct Terminal {
    columns: usize,
    rows: usize,
    picture: Vec<Vec<char>>,
    column: usize,
    row: usize,
    cursor: bool,
    other_screen: bool,
    coloured: bool,
    scrolled: bool,
    pictures: usize,
    /// Bytes of a character or a sequence that is not whole yet.
    begun: Vec<u8>,
}

impl Terminal {
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows,
            picture: vec![vec![' '; columns]; rows],
            column: 0,
            row: 0,
            cursor: true,
            other_screen: false,
            coloured: false,
            scrolled: false,
            pictures: 0,
            begun: Vec::new(),
        }
    }

    pub(super) fn row(&self, row: usize) -> String {
        self.picture[row].iter().collect::<String>().trim_end().to_owned()
    }

    pub(super) fn shows(&self, text: &str) -> bool {
        (0..self.rows).any(|row| self.row(row).contains(text))
    }

    pub(super) fn is_other_screen(&self) -> bool {
        self.other_screen
    }

    pub(super) fn has_cursor(&self) -> bool {
        self.cursor
    }

    pub(super) fn was_coloured(&self) -> bool {
        self.coloured
    }

    /// Something moved out of the picture, or went on in the next row.
    pub(super) fn has_scrolled(&self) -> bool {
        self.scrolled
    }

    pub(super) fn forget_scrolling(&mut self) {
        self.scrolled = false;
    }

    /// How many were begun.
    pub(super) fn pictures(&self) -> usize {
        self.pictures
    }

    /// What stood there is cut off.
    pub(super) fn resize(&mut self, columns: usize, rows: usize) {
        (self.columns, self.rows) = (columns, rows);
        self.picture.resize(rows, Vec::new());
        self.picture.iter_mut().for_each(|row| row.resize(columns, ' '));
        (self.column, self.row) = (self.column.min(columns), self.row.min(rows - 1));
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.begun.push(*byte);
            let Ok(text) = std::str::from_utf8(&self.begun) else { continue };
            let text = text.to_owned();
            let whole = match text.strip_prefix('\x1b') {
                None => true,
                Some(sequence) => {
                    1 < sequence.len()
                        && sequence.ends_with(|last: char| last.is_ascii_alphabetic())
                }
            };
            if !whole {
                continue;
            }
            self.begun.clear();
            match text.strip_prefix("\x1b[") {
                Some(sequence) => self.obey(sequence),
                None => text.chars().for_each(|character| self.write(character)),
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        match sequence {
            "H" => {
                (self.column, self.row) = (0, 0);
                self.pictures += 1;
            }
            "K" => self.clear(self.row, self.column.min(self.columns)),
            "J" => {
                self.clear(self.row, self.column.min(self.columns));
                (self.row + 1..self.rows).for_each(|row| self.clear(row, 0));
            }
            "?25l" => self.cursor = false,
            "?25h" => self.cursor = true,
            "?1049h" => self.other_screen = true,
            "?1049l" => self.other_screen = false,
            colour if colour.ends_with('m') => self.coloured = true,
            unknown => panic!("{unknown:?} is not known to this terminal"),
        }
    }

    fn clear(&mut self, row: usize, from: usize) {
        self.picture[row][from..].fill(' ');
    }

    fn write(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' if self.row + 1 < self.rows => self.row += 1,
            '\n' => self.scrolled |= self.other_screen,
            _ if self.column < self.columns => {
                self.picture[self.row][self.column] = character;
                self.column += 1;
            }
            _ => self.scrolled |= self.other_screen,
        }
    }
}
