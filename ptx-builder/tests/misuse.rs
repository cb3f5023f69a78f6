//! Misuse of types that must not compile, with the message that the author of a kernel sees.

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
