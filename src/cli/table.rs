//! Tables for people: a line a row, whatever the values hold, and **no line wider than
//! the terminal**. What is too wide is cut in the column that is widest; where standard
//! output is no terminal, nothing is cut.

use super::output;
use super::terminal::{Colour, Terminal};

/// A column: its title, and what becomes of it where there is no room.
#[derive(Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    /// Whether it is cut only where nothing else can be: names to be copied.
    whole: bool,
}

/// A column of text, which may be cut.
pub(super) const fn column(title: &'static str) -> Column {
    Column { title, whole: false }
}

/// A column of what is to be copied, so not cut.
pub(super) const fn whole(title: &'static str) -> Column {
    Column { title, whole: true }
}

/// Between two columns.
const GAP: &str = "  ";
/// No column is cut below that while another can be.
const WIDTH_MIN: usize = 6;

/// `rows` under the titles of `columns`, without a line break at the end.
pub(super) fn render(columns: &[Column], rows: &[Vec<String>], terminal: Terminal) -> String {
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(&titles).chain(rows).map(|row| cells(row)).collect();
    let mut widths: Vec<usize> = (0..columns.len())
        .map(|index| rows.iter().map(|row| row.get(index).map_or(0, |cell| cell.chars().count())).max().unwrap_or(0))
        .collect();
    if let Some(width) = terminal.width {
        fit(&mut widths, columns, width);
    }
    let lines: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let last = row.len().saturating_sub(1);
            let cell = |(column, (cell, width)): (usize, (&String, &usize))| {
                let text = cut(cell, *width);
                let pad = if column == last { 0 } else { width - text.chars().count() };
                let colour = if index == 0 { Some(Colour::Bold) } else { colour(&text) };
                let text = colour.map_or_else(|| text.clone(), |colour| terminal.paint(colour, &text));
                format!("{text}{}", " ".repeat(pad))
            };
            let line: Vec<String> = row.iter().zip(&widths).enumerate().map(cell).collect();
            line.join(GAP).trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// What is on one line, and harmless.
fn cells(row: &[String]) -> Vec<String> {
    row.iter().map(|cell| output::printable(&cell.replace(['\n', '\t'], " "))).collect()
}

/// Takes from the widest, of those that may be cut as long as there are any.
fn fit(widths: &mut [usize], columns: &[Column], width: usize) {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let widest = |least: usize, of_whole: bool| {
            let may = |index: &usize| widths[*index] > least && (of_whole || !columns[*index].whole);
            (0..widths.len()).filter(may).max_by_key(|index| widths[*index])
        };
        let Some(index) = widest(WIDTH_MIN, false).or_else(|| widest(WIDTH_MIN, true)).or_else(|| widest(1, true))
        else {
            return;
        };
        widths[index] -= 1;
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(width.saturating_sub(1)).collect();
    shown.push('…');
    shown
}

/// States tell by their colour too.
fn colour(text: &str) -> Option<Colour> {
    match text {
        "enabled" | "delivered" | "success" => Some(Colour::Green),
        "disabled_due_to_errors" | "failed" => Some(Colour::Red),
        "disabled" | "pending" => Some(Colour::Yellow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    fn wide(width: usize) -> Terminal {
        Terminal { width: Some(width), colours: false }
    }

    #[test]
    fn the_widest_column_is_cut_and_what_is_copied_is_not() {
        let columns = [whole("ID"), column("STATE"), column("URL")];
        let rows = rows(&[&["0123456789", "pending", "https://a.example/hooks"], &["1", "failed", "x\ny\u{1b}"]]);
        let shown = "ID          STATE    URL\n0123456789  pending  https://a.example/hooks\n\
                     1           failed   x y\\u{1b}";
        assert_eq!(render(&columns, &rows, Terminal::default()), shown);
        assert_eq!(render(&columns, &rows, wide(44)), shown);
        let shown = "ID          STATE    URL\n0123456789  pending  https://…\n1           failed   x y\\u{1b}";
        assert_eq!(render(&columns, &rows, wide(30)), shown);
        // Only where nothing else is left.
        assert_eq!(render(&columns, &rows, wide(24)).lines().nth(1), Some("0123456…  pendi…  https…"));
    }

    #[test]
    fn states_and_titles_have_colours_where_they_are_welcome() {
        let terminal = Terminal { width: Some(20), colours: true };
        let shown = render(&[column("S"), column("U")], &rows(&[&["failed", "x"]]), terminal);
        assert_eq!(shown, "\u{1b}[1mS\u{1b}[0m       \u{1b}[1mU\u{1b}[0m\n\u{1b}[31mfailed\u{1b}[0m  x");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(
            width in 16usize..120,
            cells in proptest::collection::vec(proptest::collection::vec(".{0,60}", 5), 0..4),
        ) {
            let columns = [whole("A"), column("B"), column("C"), whole("D"), column("E")];
            let shown = render(&columns, &cells, wide(width));
            prop_assert_eq!(shown.lines().count(), cells.len() + 1);
            for line in shown.lines() {
                prop_assert!(line.chars().count() <= width, "{}", line);
            }
        }
    }
}
