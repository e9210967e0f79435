//! Aligns what is told in columns.

/// Returns a line for the header and each row, columns two blanks apart; the last is as it is.
pub fn columns<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    let lines: Vec<_> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| lines.iter().map(|it| it[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|it| width(it).unwrap_or(0));
    let mut res = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        res.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        res.push('\n');
    }
    res
}
