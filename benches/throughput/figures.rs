//! What is made of measurements: medians, percentiles, verdicts and the table.
//! Knows nothing of how anything is measured.

use std::fmt::Write;

/// The middle value; of an even number of values the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The smallest value that `share` (0 to 1) of all are not above. 0 without values.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// What a figure is held to, in the figure's own unit.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown, not judged.
    Shown,
}

/// One line of the table.
pub(crate) struct Line {
    /// What was measured, in words.
    pub(crate) name: String,
    pub(crate) goal: Goal,
    /// What is held to the goal.
    pub(crate) value: f64,
    /// Of goal and value.
    pub(crate) unit: &'static str,
    /// What else was seen, for whoever looks for the reason.
    pub(crate) note: String,
}

impl Line {
    pub(crate) fn new(name: impl Into<String>, goal: Goal, value: f64, unit: &'static str) -> Line {
        Line { name: name.into(), goal, value, unit, note: String::new() }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Line {
        Line { note: note.into(), ..self }
    }

    /// Whether the goal is reached, or half of it where `half` holds.
    pub(crate) fn is_met(&self, half: bool) -> bool {
        let slack = if half { 2.0 } else { 1.0 };
        match self.goal {
            Goal::AtLeast(goal) => self.value >= goal / slack,
            Goal::AtMost(goal) => self.value <= goal * slack,
            Goal::Shown => true,
        }
    }

    fn cells(&self, half: bool) -> [String; 5] {
        let (goal, verdict) = match self.goal {
            Goal::AtLeast(goal) => (format!(">= {}", quantity(goal, self.unit)), self.is_met(half)),
            Goal::AtMost(goal) => (format!("<= {}", quantity(goal, self.unit)), self.is_met(half)),
            Goal::Shown => return [self.name.clone(), String::new(), self.figure(), String::new(), self.note.clone()],
        };
        let verdict = if verdict { "pass" } else { "FAIL" };
        [self.name.clone(), goal, self.figure(), verdict.to_owned(), self.note.clone()]
    }

    fn figure(&self) -> String {
        quantity(self.value, self.unit)
    }
}

/// A number with about three digits that say something, and its unit.
fn quantity(value: f64, unit: &str) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 || size == 0.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$} {unit}");
    text.trim_end().to_owned()
}

const HEADINGS: [&str; 5] = ["row", "goal", "figure", "", "seen beside it"];

/// All lines as a Markdown table whose columns line up.
pub(crate) fn table(lines: &[Line], half: bool) -> String {
    let rows: Vec<[String; 5]> = lines.iter().map(|line| line.cells(half)).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADINGS[column].len(), 3]).max().unwrap_or(3)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    let mut put = |cells: [&str; 5]| {
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
    };
    put(HEADINGS);
    let rules = widths.map(|width| "-".repeat(width));
    put(rules.each_ref().map(String::as_str));
    for row in &rows {
        put(row.each_ref().map(String::as_str));
    }
    text
}
