//! A text builder with indentation.

/// Text under construction.
#[derive(Default)]
pub struct Text {
    out: String,
    depth: usize,
}

impl Text {
    /// A text that starts with `head`.
    pub fn new(head: &str) -> Self {
        Self {
            out: head.into(),
            depth: 0,
        }
    }

    /// Appends a line at the current depth. An empty line is not indented.
    pub fn line(&mut self, line: &str) {
        if !line.is_empty() {
            for _ in 0..self.depth {
                self.out.push_str("    ");
            }
            self.out.push_str(line);
        }
        self.out.push('\n');
    }

    /// Appends a block: its first line, its indented body, its last line.
    pub fn block(&mut self, open: &str, close: &str, body: impl FnOnce(&mut Self)) {
        self.line(open);
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line(close);
    }

    /// Appends words, wrapped at `width` columns, with `prefix` on each line.
    pub fn prose(&mut self, prefix: &str, words: &str, width: usize) {
        let mut line = String::from(prefix);
        let mut empty = true;
        for word in words.split_whitespace() {
            if !empty && self.depth * 4 + line.len() + 1 + word.len() > width {
                self.line(line.trim_end());
                line = String::from(prefix);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(line.trim_end());
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }
}
