//! Text that keeps track of its indentation.

use alloc::string::String;

/// Text under construction.
#[derive(Default)]
pub struct Text {
    out: String,
    depth: usize,
}

impl Text {
    /// Starts with the given lines.
    pub fn new(head: &str) -> Self {
        Self {
            out: head.into(),
            depth: 0,
        }
    }

    /// One line at the current depth; an empty one stays empty.
    pub fn line(&mut self, line: &str) {
        if !line.is_empty() {
            for _ in 0..self.depth {
                self.out.push_str("    ");
            }
            self.out.push_str(line);
        }
        self.out.push('\n');
    }

    /// A line that opens a block, what the block holds, and the line that
    /// closes it.
    pub fn block(&mut self, open: &str, close: &str, body: impl FnOnce(&mut Self)) {
        self.line(open);
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line(close);
    }

    /// Words, folded to `width` columns, each line behind `prefix`.
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

    /// What has been written.
    pub fn finish(self) -> String {
        self.out
    }
}
