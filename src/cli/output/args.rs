//! The options that say in which form facts are printed.

use clap::{Args, ValueEnum};

/// The forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `-q`: an id or name a line.
    Quiet,
    /// A table for people.
    Table,
    /// `--format json`: one of Docker's objects a line.
    Objects,
    /// `--json`: one document of docs/JSON.md.
    Document,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// Columns for people
    #[default]
    Table,
    /// Docker's JSON objects, one a line
    Json,
}

/// `--json` and `--format`.
#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// Print Docker's table, or Docker's JSON objects, one a line
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        value_name = "table|json"
    )]
    format: Format,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl ShapeArgs {
    /// Which form is wanted.
    pub fn shape(&self) -> Shape {
        match self.format {
            _ if self.json => Shape::Document,
            Format::Json => Shape::Objects,
            Format::Table => Shape::Table,
        }
    }
}

/// The options of commands that list things.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print ids or names only, one a line
    #[arg(short, long, conflicts_with_all = ["json", "format"])]
    quiet: bool,
    /// Do not shorten ids and texts
    #[arg(long)]
    pub no_trunc: bool,
    #[command(flatten)]
    shape: ShapeArgs,
}

impl ListArgs {
    /// Which form is wanted.
    pub fn shape(&self) -> Shape {
        if self.quiet { Shape::Quiet } else { self.shape.shape() }
    }
}
