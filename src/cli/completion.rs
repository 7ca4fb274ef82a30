//! `laminafs completion`: what a shell needs to complete our arguments.

use super::output;
use clap::{Args, Command};
use clap_complete::Shell;

/// Arguments of `laminafs completion`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    laminafs completion bash > /usr/share/bash-completion/completions/laminafs\n  \
    laminafs completion zsh  > /usr/share/zsh/site-functions/_laminafs\n  \
    laminafs completion fish > /usr/share/fish/vendor_completions.d/laminafs.fish")]
pub struct CompletionArgs {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_enum, hide_possible_values = true)]
    shell: Shell,
}

/// Prints the completions of `program`.
pub fn run(args: &CompletionArgs, mut program: Command) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut program, "laminafs", &mut text);
    output::print(&String::from_utf8(text)?)
}
