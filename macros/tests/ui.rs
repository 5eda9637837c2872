//! What the compiler says to mistakes that the macros, or the types behind them, can see: pinned, so that messages stay
//! helpful. The cases are `tests/ui/*.rs` of the repository. After a wanted change: `TRYBUILD=overwrite cargo test -p
//! karst-macros --test ui`, and read the difference.

#[test]
fn mistakes_in_declarations_are_told_where_they_stand() {
    trybuild::TestCases::new().compile_fail("../tests/ui/*.rs");
}
