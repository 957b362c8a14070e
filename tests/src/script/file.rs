//! Script files: reading, running, comparing, recording.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::session::Session;
use crate::{Node, NodeOptions, Target};

/// A step of a script file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub comment: Vec<String>,
    pub commands: Vec<String>,
    pub answers: Vec<String>,
}

/// Flags of the server and the steps. Paragraphs of comments alone belong to the step after them.
///
/// # Errors
/// When a step has no comment or no command.
pub fn parse_steps(text: &str) -> Result<(Vec<String>, Vec<Step>)> {
    let (mut flags, mut steps) = (Vec::new(), Vec::new());
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let mut lines = paragraph.trim_end().lines().peekable();
        let mut step = Step { comment: vec![], commands: vec![], answers: vec![] };
        while let Some(line) = lines.next_if(|line| line.starts_with('#') || line.is_empty()) {
            step.comment.push(line.to_owned());
        }
        if let Some(line) = lines.next_if(|line| line.starts_with("server ")) {
            flags = line.split(' ').skip(1).map(str::to_owned).collect();
            continue;
        }
        while let Some(line) = lines.next_if(|line| *line != "---") {
            step.commands.push(line.to_owned());
        }
        step.answers = lines.skip(1).map(str::to_owned).collect();
        ensure!(!step.comment.is_empty(), "a step needs a comment that says why:\n{paragraph}");
        ensure!(!step.commands.is_empty(), "a step needs a command:\n{paragraph}");
        steps.push(step);
    }
    Ok((flags, steps))
}

/// Runs every script in a directory, each on a fresh server.
///
/// # Errors
/// One message with all differences. With `UPDATE_GOLDENFILES=1` the files are rewritten instead.
pub fn check_directory(dir: &Path) -> Result<()> {
    let target = Target::from_env()?;
    let update = std::env::var_os("UPDATE_GOLDENFILES").is_some_and(|value| value == "1");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("scripts in {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut report = String::new();
    for file in files {
        let before = fs::read_to_string(&file)?;
        match play(&before, target) {
            Ok(after) if update => fs::write(&file, &after)?,
            Ok(after) => report.push_str(&differences(&file, &before, &after)?),
            Err(error) => {
                let _ = writeln!(report, "\n{}: {error:#}", file.display());
            }
        }
    }
    ensure!(report.is_empty(), "{} does not answer as recorded:\n{report}", target.name());
    Ok(())
}

/// The script with the answers of a fresh server.
pub fn play(script: &str, target: Target) -> Result<String> {
    let (flags, steps) = parse_steps(script)?;
    let mut options = NodeOptions::new(target);
    options.args.clone_from(&flags);
    let node = Node::start(options)?;
    let mut output = String::new();
    if let Some(at) = script.find("server ").filter(|_| !flags.is_empty()) {
        let end = script[at..].find("\n\n").map_or(script.len(), |end| at + end);
        output.push_str(&script[..end]);
        output.push_str("\n\n");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut session = Session::start(node).await?;
        for (index, step) in steps.iter().enumerate() {
            if index > 0 {
                output.push('\n');
            }
            for line in step.comment.iter().chain(&step.commands) {
                let _ = writeln!(output, "{line}");
            }
            let _ = writeln!(output, "---");
            for command in &step.commands {
                let answer = session.run(command).await.with_context(|| command.clone())?;
                if !answer.is_empty() {
                    let _ = writeln!(output, "{answer}");
                }
            }
        }
        Ok(output)
    })
}

/// Step by step: what was recorded and what came.
fn differences(file: &Path, before: &str, after: &str) -> Result<String> {
    let mut report = String::new();
    let (recorded, came) = (parse_steps(before)?.1, parse_steps(after)?.1);
    for (recorded, came) in recorded.iter().zip(&came).filter(|(a, b)| a.answers != b.answers) {
        let _ = writeln!(report, "\n{}\n{}", file.display(), recorded.comment.join("\n"));
        let _ = writeln!(report, "{}", recorded.commands.join("\n"));
        let _ = writeln!(report, "--- recorded\n{}", recorded.answers.join("\n"));
        let _ = writeln!(report, "--- now\n{}", came.answers.join("\n"));
    }
    Ok(report)
}
