//! What a training did: one JSON object a line in `metrics.jsonl`, the same for TensorBoard, and a page with the
//! curves, which is written anew at checkpoints and evaluations.

use super::error::{Error, Result};
use super::fit::Event;
use super::tensorboard::Events;
use lazul_io::write_file;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The file of a training's figures.
#[derive(Debug)]
pub(super) struct Metrics {
    folder: PathBuf,
    title: String,
    rows: Vec<Value>,
    events: Events,
}

const FILE: &str = "metrics.jsonl";
const PAGE: &str = "loss.html";

/// Most points of a curve: more than a picture has columns.
const POINTS: usize = 2000;

/// Every few points, so that there are no more than [`POINTS`], with the last.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(POINTS).max(1);
    let mut kept: Vec<_> = points.into_iter().rev().step_by(every).collect();
    kept.reverse();
    kept
}

impl Metrics {
    /// The figures up to a step, to be gone on with: those of steps that are made again are dropped.
    pub(super) fn open(folder: &Path, title: &str, step: u64) -> Result<Metrics> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::Data(format!("{}: {e}", path.display()))),
        };
        // The last line may be half there.
        let rows = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let rows: Vec<Value> =
            rows.filter(|row| row["step"].as_u64().is_some_and(|s| s <= step)).collect();
        let events = Events::open(folder, step)?;
        let (folder, title) = (folder.to_path_buf(), title.to_string());
        let metrics = Metrics { folder, title, rows, events };
        let lines: String = metrics.rows.iter().map(|row| format!("{row}\n")).collect();
        write_file(&path, lines.as_bytes())?;
        Ok(metrics)
    }

    /// Writes what an event says.
    pub(super) fn event(&mut self, event: &Event) -> Result<()> {
        let row = match event {
            Event::Report(r) => json!({
                "step": r.step,
                "loss": number(r.loss),
                "learning_rate": r.learning_rate.map(number),
                "iterations_per_second": number(r.iterations_per_second),
                "tokens_per_second": number(r.tokens_per_second),
                "trained_tokens": r.trained_tokens,
                "peak_memory": r.peak_memory,
            }),
            Event::Evaluated { step, loss, seconds } => {
                json!({ "step": step, "val_loss": number(*loss), "val_seconds": number(*seconds) })
            }
            Event::Skipped { step, tensor } => json!({ "step": step, "not_finite": tensor }),
            Event::Saved { .. } => return self.page(),
            _ => return Ok(()),
        };
        let path = self.folder.join(FILE);
        let at = |e: std::io::Error| Error::Data(format!("{}: {e}", path.display()));
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(at)?;
        file.write_all(format!("{row}\n").as_bytes()).map_err(at)?;
        self.rows.push(row);
        match event {
            Event::Report(r) => {
                let mut scalars = vec![("loss/training", r.loss)];
                scalars.extend(r.learning_rate.map(|rate| ("learning_rate", rate)));
                scalars.push(("tokens_per_second", r.tokens_per_second));
                scalars.push(("peak_memory", r.peak_memory as f64));
                self.events.write(r.step, &scalars)
            }
            Event::Evaluated { step, loss, .. } => {
                self.events.write(*step, &[("loss/validation", *loss)])?;
                self.page()
            }
            _ => Ok(()),
        }
    }

    fn page(&self) -> Result<()> {
        let page = page_of(&self.title, &self.rows);
        Ok(write_file(&self.folder.join(PAGE), page.as_bytes())?)
    }
}

/// Six figures are enough for a person, and JSON has no NaN.
fn number(x: f64) -> Value {
    format!("{x:.6e}")
        .parse::<f64>()
        .ok()
        .filter(|x| x.is_finite())
        .map_or(Value::Null, Value::from)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A page that needs nothing else: the curves of the losses as a picture.
fn page_of(title: &str, rows: &[Value]) -> String {
    let curve = |key: &str| -> Vec<(f64, f64)> {
        let point = |r: &Value| Some((r["step"].as_f64()?, r[key].as_f64()?));
        thinned(rows.iter().filter_map(point).collect())
    };
    let curves =
        [("training", "#4269d0", curve("loss")), ("validation", "#ff725c", curve("val_loss"))];
    let points = || curves.iter().flat_map(|(_, _, points)| points);
    let ends = |f: &dyn Fn(&(f64, f64)) -> f64| {
        let (low, high) = points()
            .map(f)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        let high = if high > low { high } else { low + 1.0 };
        (low, high)
    };
    let (x, y) = (ends(&|p| p.0), ends(&|p| p.1));
    let (width, height, left, bottom) = (860.0, 420.0, 64.0, 40.0);
    let place = |p: &(f64, f64)| {
        let right = left + (p.0 - x.0) / (x.1 - x.0) * (width - left - 16.0);
        let down = height - bottom - (p.1 - y.0) / (y.1 - y.0) * (height - bottom - 16.0);
        (right, down)
    };
    let mut picture = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| {
        picture.write_fmt(text).unwrap_or_else(|_| unreachable!("a string takes any text"));
    };
    if points().next().is_some() {
        for i in 0..=4 {
            let value = y.0 + (y.1 - y.0) * i as f64 / 4.0;
            let (_, at) = place(&(x.0, value));
            put(format_args!(
                "<line x1='{left}' x2='{}' y1='{at:.1}' y2='{at:.1}' class='grid'/>\
                 <text x='{}' y='{:.1}' text-anchor='end'>{value:.3}</text>\n",
                width - 16.0,
                left - 8.0,
                at + 4.0
            ));
            let step = x.0 + (x.1 - x.0) * i as f64 / 4.0;
            let (at, _) = place(&(step, y.0));
            put(format_args!(
                "<text x='{at:.1}' y='{:.1}' text-anchor='middle'>{step:.0}</text>\n",
                height - bottom + 20.0
            ));
        }
    }
    let mut legend = String::new();
    for (name, colour, points) in &curves {
        let Some((_, last)) = points.last() else { continue };
        let line: Vec<String> =
            points.iter().map(place).map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
        put(format_args!(
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='1.8'/>\n",
            line.join(" ")
        ));
        for p in points.iter().rev().step_by(points.len().div_ceil(200)) {
            let (a, b) = place(p);
            put(format_args!(
                "<circle cx='{a:.1}' cy='{b:.1}' r='2.2' fill='{colour}'>\
                 <title>step {}: {:.4}</title></circle>\n",
                p.0, p.1
            ));
        }
        legend += &format!("<span style='color:{colour}'>&#9644;</span> {name} {last:.4} &nbsp; ");
    }
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>\n\
         <style>body{{font:15px system-ui,sans-serif;margin:2rem auto;max-width:900px;\
         color:#222;background:#fff}}svg{{width:100%}}text{{font-size:12px;fill:#666}}\
         .grid{{stroke:#ddd}}@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#161616}}\
         .grid{{stroke:#333}}}}</style></head>\n<body><h1>{title}</h1><p>{legend}</p>\n\
         <svg viewBox='0 0 {width} {height}' role='img' aria-label='losses by step'>\n\
         {picture}</svg></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::fit::Report;
    use crate::train::tensorboard;

    fn report(step: u64, loss: f64) -> Event {
        Event::Report(Report {
            step,
            loss,
            learning_rate: Some(1e-3),
            iterations_per_second: 3.0,
            tokens_per_second: 99.0,
            trained_tokens: step * 33,
            peak_memory: 1 << 20,
        })
    }

    #[test]
    fn lines_and_page_follow_the_training() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), "a <b> & c", 0).unwrap();
        for step in [10, 20, 30] {
            metrics.event(&report(step, 3.0 / step as f64)).unwrap();
        }
        metrics.event(&Event::Evaluated { step: 30, loss: f64::NAN, seconds: 1.0 }).unwrap();
        metrics.event(&Event::Evaluated { step: 30, loss: 0.5, seconds: 1.0 }).unwrap();
        let text = fs::read_to_string(folder.path().join(FILE)).unwrap();
        let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(rows.len(), 5);
        assert_eq!((&rows[2]["loss"], &rows[3]["val_loss"]), (&json!(0.1), &Value::Null));
        let page = fs::read_to_string(folder.path().join(PAGE)).unwrap();
        assert!(page.contains("a &lt;b&gt; &amp; c") && page.contains("validation 0.5000"));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
        assert!(!page.contains("http"), "the page needs nothing from elsewhere");
        // Going on from step 20 drops what comes again, and half a line.
        fs::write(folder.path().join(FILE), text + "{\"step\": 4").unwrap();
        let metrics = Metrics::open(folder.path(), "t", 20).unwrap();
        assert_eq!(metrics.rows.len(), 2);
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap().lines().count(), 2);
    }

    /// Each report wrote a page with all points before it.
    #[test]
    fn the_page_is_small_and_written_at_saves() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join(PAGE);
        let mut metrics = Metrics::open(folder.path(), "t", 0).unwrap();
        metrics.event(&report(1, 2.0)).unwrap();
        assert!(!page.exists());
        metrics.event(&Event::Saved { step: 1, folder: "s".into() }).unwrap();
        assert!(fs::read_to_string(&page).unwrap().contains("training 2.0000"));
        let rows: Vec<Value> =
            (1..=50_001).map(|step| json!({ "step": step, "loss": 1.0 / step as f64 })).collect();
        let page = page_of("t", &rows);
        assert!(page.len() < 100_000, "{} bytes", page.len());
        assert!(page.contains("step 50001:"), "the last point is there");
        // Nothing of writing stays.
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [tensorboard::FILE, PAGE, FILE]);
    }

    #[test]
    fn a_page_without_points_is_a_page() {
        let page = page_of("t", &[]);
        assert!(page.ends_with("</html>\n") && !page.contains("inf"));
        let one = page_of("t", &[json!({ "step": 5, "loss": 2.0 })]);
        assert!(one.contains("training 2.0000") && !one.contains("NaN"));
    }
}
