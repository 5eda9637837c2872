//! The example `parse_union`, as a test: what comes of it is what plain maps say.

#[path = "../../examples/parse_union/declare.rs"]
mod declare;
#[path = "../../examples/parse_union/oracle.rs"]
mod oracle;
#[path = "../../examples/parse_union/pipeline.rs"]
mod pipeline;

#[test]
fn logins_and_clicks_of_one_topic_each_reach_their_resolver() {
    let pipeline::Report { expected, got, resolvers } = karst::run(pipeline::run(5_000)).unwrap();
    assert_eq!(got, expected);
    assert!(expected.skipped > 0 && expected.dead > 0, "of every kind there is some");
    let (logins, clicks) = (&resolvers[0], &resolvers[1]);
    assert_eq!((logins.name.as_str(), clicks.name.as_str()), ("resolve_logins", "resolve_clicks"));
    // A login is none of the clicks' resolver, a click none of the logins', a heartbeat of neither.
    assert_eq!(clicks.failed, expected.dead);
    assert_eq!(logins.skipped, clicks.applied + expected.skipped);
    assert_eq!(clicks.skipped, logins.applied - expected.dead + expected.skipped);
}
