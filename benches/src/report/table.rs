//! Tables in Markdown that read as well on a terminal.

use comfy_table::{CellAlignment, Table, presets};

/// One row.
pub(super) type Cells = Vec<String>;

/// So many columns at the left are text, the others are figures.
pub(super) fn table(text_columns: usize, head: Cells, rows: Vec<Cells>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(head);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(text_columns) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
