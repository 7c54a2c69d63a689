//! `tasker template …`: sending templates and looking at them; checking is [`template_check`]'s.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tasker_shared::wire::{TemplateApplied, TemplateDetail, TemplateListResponse};

use super::task_show::few;
use super::template_check::{self, Check};
use super::{print, print_body, print_line};
use crate::cli::Remote;
use crate::client::{Client, Media, path_part};
use crate::failure::Failure;
use crate::output::diagram::{Diagram, Node};
use crate::output::look::Look;
use crate::output::palette::Palette;
use crate::output::{table::Rows, terminal};
use crate::parse;

#[derive(Debug, Args)]
pub(crate) struct Template {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check files on this machine: every error with file, line and column; nothing is sent
    Check(Check),
    /// Send files to the server
    Apply(Apply),
    /// List the server's templates
    List(List),
    /// Show one of the server's templates
    Show(Show),
    /// Draw the graph of a file or of one of the server's templates
    Graph(Graph),
}

impl Template {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Check(command) => command.run(),
            Command::Apply(command) => command.run().await,
            Command::List(command) => command.run().await,
            Command::Show(command) => command.run().await,
            Command::Graph(command) => command.run().await,
        }
    }

    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Command::Check(command) => command.json,
            Command::Apply(command) => command.remote.json,
            Command::List(command) => command.remote.json,
            Command::Show(command) => command.remote.json,
            Command::Graph(command) => command.remote.json,
        }
    }
}

#[derive(Debug, Args)]
struct Apply {
    /// Files, and directories to look for *.yaml and *.yml in
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

impl Apply {
    /// Sends every file; one that is refused does not keep the others from being sent.
    async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let files = template_check::files(&self.paths)?;
        let mut bodies = Vec::with_capacity(files.len());
        let mut refused = 0;
        for file in &files {
            match send(&client, parse::read(file)?).await {
                Ok(answer) => {
                    if !self.remote.json {
                        let applied: TemplateApplied = answer.read()?;
                        print_line(&told(&applied))?;
                    }
                    bodies.push(answer.body);
                }
                Err(Failure::Refused {
                    message,
                    details,
                    body,
                    ..
                }) => {
                    refused += 1;
                    if !self.remote.json {
                        eprintln!("{}: {message}", file.display());
                        for detail in details {
                            eprintln!("  {detail}");
                        }
                    }
                    bodies.push(body);
                }
                Err(failure) => return Err(failure),
            }
        }
        if self.remote.json {
            print_body(&as_one(&bodies))?;
        }
        match refused {
            0 => Ok(()),
            _ => Err(Failure::Silent),
        }
    }
}

/// Sends a template's source as it is.
pub(super) async fn send(
    client: &Client,
    source: String,
) -> Result<crate::client::Answer, Failure> {
    let media = match source.trim_start().starts_with('{') {
        true => Media::Json,
        false => Media::Yaml,
    };
    client.post_text("/v1/templates", media, source).await
}

fn told(applied: &TemplateApplied) -> String {
    let TemplateApplied {
        namespace,
        name,
        version,
        created,
    } = applied;
    let what = if *created { "stored" } else { "unchanged" };
    format!("{namespace}/{name} {version}  {what}")
}

/// The body itself for one file, a list of the bodies for several.
fn as_one(bodies: &[String]) -> String {
    match bodies {
        [only] => only.clone(),
        many => {
            let bodies: Vec<&str> = many.iter().map(|body| body.trim()).collect();
            format!("[{}]", bodies.join(","))
        }
    }
}

#[derive(Debug, Args)]
struct List {
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let filter = self.namespace.map(|namespace| ("namespace", namespace));
        let filter: Vec<_> = filter.into_iter().collect();
        let answer = client.get("/v1/templates", &filter).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let list: TemplateListResponse = answer.read()?;
        if list.templates.is_empty() {
            return print_line("no templates; send some with `tasker template apply FILE`");
        }
        let mut rows = Rows::under(&["NAMESPACE", "NAME", "VERSION", ">STEPS", "DESCRIPTION"]);
        for template in list.templates {
            rows.add(vec![
                template.namespace,
                template.name,
                template.version,
                template.step_count.to_string(),
                template.description.unwrap_or_default(),
            ]);
        }
        print(&rows.text())
    }
}

/// One of the server's templates.
#[derive(Debug, Args)]
struct Which {
    /// The template's namespace; may be left out where only one has the name
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    /// The template's version [default: the highest]
    #[arg(long = "version", id = "template_version", value_name = "V")]
    version: Option<String>,
}

impl Which {
    /// The path of the template.
    async fn path(&self, client: &Client, name: &str) -> Result<String, Failure> {
        let list: TemplateListResponse = client.read("/v1/templates").await?;
        let found: Vec<_> = list
            .templates
            .iter()
            .filter(|template| template.name == name)
            .filter(|template| {
                self.namespace
                    .as_ref()
                    .is_none_or(|ns| *ns == template.namespace)
            })
            .filter(|template| self.version.as_ref().is_none_or(|v| *v == template.version))
            .collect();
        let mut namespaces: Vec<&str> = found.iter().map(|t| t.namespace.as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        if namespaces.len() > 1 {
            return Err(Failure::Usage(format!(
                "several namespaces have a template {name:?}: choose one with --namespace {}",
                namespaces.join("|")
            )));
        }
        let highest = found
            .into_iter()
            .max_by_key(|template| rank(&template.version));
        let Some(template) = highest else {
            return Err(Failure::Verdict(format!(
                "the server has no such template {name:?}; see `tasker template list`"
            )));
        };
        Ok(format!(
            "/v1/templates/{}/{}/{}",
            path_part(&template.namespace),
            path_part(&template.name),
            path_part(&template.version)
        ))
    }
}

/// Releases before pre-releases, then by precedence, as the server chooses.
fn rank(version: &str) -> (bool, Option<semver::Version>) {
    let version = semver::Version::parse(version).ok();
    let release = version
        .as_ref()
        .is_some_and(|version| version.pre.is_empty());
    (release, version)
}

#[derive(Debug, Args)]
struct Show {
    /// The template's name
    name: String,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    remote: Remote,
}

impl Show {
    async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = self.which.path(&client, &self.name).await?;
        let answer = client.get(&path, &[]).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let detail: TemplateDetail = answer.read()?;
        let mut text = format!("{}/{} {}\n", detail.namespace, detail.name, detail.version);
        if let Some(description) = &detail.description {
            text.push_str(&format!("{}\n", description.trim_end()));
        }
        let mut rows = Rows::under(&["STEP", "HANDLER", "WAITS FOR", ">ATTEMPTS"]);
        for step in &detail.steps {
            rows.add(vec![
                step.name.clone(),
                step.handler.clone(),
                few(&step.dependencies),
                if step.default_retryable {
                    step.default_max_attempts
                } else {
                    1
                }
                .to_string(),
            ]);
        }
        print(&format!("{text}\n{}", rows.text()))
    }
}

#[derive(Debug, Args)]
struct Graph {
    /// A file, or the name of one of the server's templates
    #[arg(value_name = "FILE|NAME")]
    what: String,
    /// How to draw it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    remote: Remote,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Mermaid,
}

impl Graph {
    async fn run(self) -> Result<(), Failure> {
        let file = PathBuf::from(&self.what);
        let steps: Vec<(String, Vec<String>)> = if file.is_file() {
            let template = template_check::parse_file(&file).map_err(template_check::refused)?;
            let steps = template.steps.into_iter();
            steps.map(|step| (step.name, step.dependencies)).collect()
        } else {
            let client = self.remote.client()?;
            let path = self.which.path(&client, &self.what).await?;
            let answer = client.get(&path, &[]).await?;
            if self.remote.json {
                return print_body(&answer.body);
            }
            let detail: TemplateDetail = answer.read()?;
            let steps = detail.steps.into_iter();
            steps.map(|step| (step.name, step.dependencies)).collect()
        };
        match self.format {
            Format::Text => {
                let lines = diagram(&steps).draw(terminal::size().columns);
                let palette = Palette::of_stdout();
                let lines = lines.iter().map(|line| line.paint(palette) + "\n");
                print(&lines.collect::<String>())
            }
            Format::Mermaid => print(&mermaid(&steps)),
        }
    }
}

fn diagram(steps: &[(String, Vec<String>)]) -> Diagram {
    let at: std::collections::HashMap<&str, usize> = steps
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (name.as_str(), at))
        .collect();
    let nodes = steps.iter().map(|(name, parents)| Node {
        name: name.clone(),
        parents: parents
            .iter()
            .filter_map(|parent| at.get(parent.as_str()).copied())
            .collect(),
        look: Look::PLAN,
        note: String::new(),
        note_room: 0,
    });
    Diagram {
        nodes: nodes.collect(),
    }
}

fn mermaid(steps: &[(String, Vec<String>)]) -> String {
    let mut text = "flowchart TD\n".to_owned();
    let at = |name: &str| steps.iter().position(|(step, _)| step == name);
    for (number, (name, _)) in steps.iter().enumerate() {
        text.push_str(&format!("    s{number}[\"{name}\"]\n"));
    }
    for (number, (_, parents)) in steps.iter().enumerate() {
        for parent in parents.iter().filter_map(|parent| at(parent)) {
            text.push_str(&format!("    s{parent} --> s{number}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_a_release_where_there_is_one() {
        let versions = ["1.9.0", "1.10.0", "2.0.0-rc.1"];
        let highest = versions.into_iter().max_by_key(|version| rank(version));
        assert_eq!(highest, Some("1.10.0"));
        let highest = ["1.0.0-rc.1", "1.0.0-rc.2"]
            .into_iter()
            .max_by_key(|version| rank(version));
        assert_eq!(highest, Some("1.0.0-rc.2"));
    }

    #[test]
    fn a_plan_is_drawn_as_mermaid() {
        let steps = [
            ("split".to_owned(), vec![]),
            ("merge".to_owned(), vec!["split".to_owned()]),
        ];
        insta::assert_snapshot!(mermaid(&steps), @r#"
        flowchart TD
            s0["split"]
            s1["merge"]
            s0 --> s1
        "#);
    }
}
