//! Draws the ratios as a bar chart, with a mark at each target.

use std::fmt::Write as _;

use crate::report::{Report, Row, Target};

const LABELS_WIDTH: f64 = 330.0;
const BARS_WIDTH: f64 = 420.0;
const ROW_HEIGHT: f64 = 22.0;
const TOP: f64 = 34.0;
/// Highest ratio on the scale.
const SCALE_END: f64 = 1.25;

/// Draws the rows that compare rates with a baseline.
pub fn draw(report: &Report) -> String {
    let rows: Vec<&Row> =
        report.rows.iter().filter(|row| row.unit == "per s" && row.ratio.is_some()).collect();
    let width = LABELS_WIDTH + BARS_WIDTH + 30.0;
    let height = TOP + ROW_HEIGHT * rows.len() as f64 + 24.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LABELS_WIDTH}\" y=\"16\" fill=\"#333\">share of the baseline \
         (line: from the lowest to the highest round; red: target)</text>\n"
    );
    for tenth in (0..=12).step_by(2) {
        let label = f64::from(tenth) / 10.0;
        let x = x_of(label);
        let bottom = height - 20.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{label}</text>",
            height - 6.0
        );
    }
    for (number, row) in rows.iter().enumerate() {
        draw_bar(&mut svg, row, TOP + ROW_HEIGHT * number as f64);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_bar(svg: &mut String, row: &Row, top: f64) {
    let Some(ratio) = row.ratio else { return };
    let middle = top + ROW_HEIGHT / 2.0;
    let left = x_of(0.0);
    let right = x_of(ratio.median);
    let label = row.name.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#333\">{label}</text>",
        left - 8.0,
        middle + 4.0
    );
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"#4a7fb5\"/>",
        top + 4.0,
        right - left,
        ROW_HEIGHT - 8.0
    );
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#16324f\"/>",
        x_of(ratio.low),
        x_of(ratio.high)
    );
    if let Some(Target::MinRatio(target)) = row.target {
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {:.1}v{}\" stroke=\"#c0392b\" stroke-width=\"2\"/>",
            x_of(target),
            top + 2.0,
            ROW_HEIGHT - 4.0
        );
    }
}

fn x_of(ratio: f64) -> f64 {
    LABELS_WIDTH + BARS_WIDTH * ratio.clamp(0.0, SCALE_END) / SCALE_END
}
