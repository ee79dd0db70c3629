//! One line per run, for spreadsheets.

use std::fmt::Write;

use crate::bench::compare::Comparison;
use crate::bench::measure::Measure;

/// A line with titles, then one per run; figures of a scenario's own are in the last column.
pub fn csv(comparison: &Comparison) -> String {
    let mut titles: Vec<String> = [
        "scenario",
        "broker_cores",
        "broker",
        "version",
        "repetition",
    ]
    .map(str::to_owned)
    .to_vec();
    titles.extend(
        Measure::ALL
            .iter()
            .map(|measure| measure.key().into_owned()),
    );
    titles.extend(["generator_busy", "failed", "figures"].map(str::to_owned));
    let mut text = String::new();
    line(&mut text, &titles);
    for row in &comparison.rows {
        for (broker, runs) in comparison.entries(row) {
            for (repetition, run) in runs.0.iter().enumerate() {
                let mut fields = vec![
                    row.row.scenario.name.clone(),
                    row.row.broker_cores.to_string(),
                    broker.name.clone(),
                    broker.version.clone(),
                    (repetition + 1).to_string(),
                ];
                let outcome = run.as_ref().ok();
                fields.extend(Measure::ALL.iter().map(|measure| {
                    let value = outcome.and_then(|outcome| measure.of(outcome));
                    value.map_or(String::new(), |value| value.to_string())
                }));
                fields.push(outcome.map_or(String::new(), |o| o.generator_busy.to_string()));
                fields.push(run.as_ref().err().cloned().unwrap_or_default());
                let figures = outcome.map(|outcome| {
                    let figures = outcome.figures.iter();
                    let figures = figures.map(|(name, value)| format!("{name}={value}"));
                    figures.collect::<Vec<_>>().join(";")
                });
                fields.push(figures.unwrap_or_default());
                line(&mut text, &fields);
            }
        }
    }
    text
}

fn line(text: &mut String, fields: &[String]) {
    let fields: Vec<String> = fields.iter().map(|field| escaped(field)).collect();
    let _ = write!(text, "{}\r\n", fields.join(","));
}

/// RFC 4180: quoted where it holds a comma, a quote or a line break; quotes doubled.
fn escaped(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::made_up;
    use super::*;

    #[test]
    fn each_run_has_its_line_and_all_lines_have_the_same_columns() {
        let text = csv(&made_up("pairs-qos1-64B-w20-tcp"));
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
        assert_eq!(lines.len(), 1 + 2 + 2);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
        assert_eq!(lines[1][5], "1000000");
        assert!(lines[4].contains(&"it <ended>"));
    }

    #[test]
    fn fields_with_commas_quotes_or_line_breaks_are_quoted() {
        assert_eq!(escaped("a,b"), "\"a,b\"");
        assert_eq!(escaped("a \"b\""), "\"a \"\"b\"\"\"");
        assert_eq!(escaped("a\nb"), "\"a\nb\"");
        assert_eq!(escaped("a b"), "a b");
    }
}
