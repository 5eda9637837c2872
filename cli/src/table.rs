//! Columns of text for a terminal.

use std::fmt::Write;

/// Rows under their headings, columns as wide as needed. What came from data is escaped: a terminal obeys control characters.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut row = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(row, "{cell:width$}  "); // writing to a String cannot fail
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(&mut headings.iter().copied());
    for row in &rows {
        line(&mut row.iter().map(String::as_str));
    }
    text.truncate(text.trim_end().len());
    text
}

/// Without control characters.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_control_characters_are_shown() {
        let rows = [vec!["user.name".to_owned(), "A\u{1b}[31m\n".to_owned()], vec!["x".to_owned(), String::new()]];
        let expected = "FEATURE    VALUE\nuser.name  A\\u{1b}[31m\\n\nx";
        assert_eq!(table(&["FEATURE", "VALUE"], &rows), expected);
    }
}
