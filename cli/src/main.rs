//! The plain `karst`: what it runs is declared in its configuration alone. A program with resolvers in Rust calls
//! [`karst_cli::run`] itself.

fn main() -> std::process::ExitCode {
    karst_cli::run(|engine| engine)
}
