//! What is wrong with a JSON text? Said without repeating any of it: it is somebody's payload.

/// No description is longer, in bytes.
const LIMIT_BYTES: usize = 300;

/// What `error` says, less what stood in the text.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // What is no JSON at all is described by its grammar; a field's name is the type's own.
    let speaks_of_the_type = ["missing field `", "duplicate field `"];
    if !error.is_data() || speaks_of_the_type.iter().any(|begin| text.starts_with(begin)) {
        return cut(text);
    }
    let place = format!("at line {} column {}", error.line(), error.column());
    // `invalid type: string "…", expected u64 at …`: what was found is left out.
    match text.rfind(", expected ").and_then(|at| text.get(at + 2..)) {
        Some(expected) => cut(format!("another kind of value was found, {expected}")),
        None => format!("a value does not fit its type {place}"),
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=LIMIT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Login {
        #[expect(dead_code, reason = "only its reading is looked at")]
        user: u32,
        #[expect(dead_code, reason = "only its reading is looked at")]
        status: Option<Status>,
    }

    #[derive(Debug, Deserialize)]
    enum Status {
        Success,
        Failure,
    }

    fn problem(text: &str) -> String {
        describe(&serde_json::from_str::<Login>(text).unwrap_err())
    }

    #[test]
    fn what_was_expected_is_said_and_what_was_found_is_not() {
        for (text, says) in [
            (r#"{"user":"canary"}"#, "another kind of value was found, expected u32 at line 1"),
            (
                r#"{"user":1,"status":"canary, expected canary"}"#,
                "another kind of value was found, expected `Success` or `Failure` at line 1",
            ),
            (r#"{"canary":1}"#, "expected `user` or `status` at line 1"),
            ("{}", "missing field `user` at line 1 column 2"),
            (r#"{"user":1,"user":2}"#, "duplicate field `user`"),
            ("[[", "another kind of value was found, expected u32"),
            ("canary", "expected value at line 1 column 1"),
            (r#"{"user":"#, "EOF while parsing"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(says), "{text}: {problem}");
            assert!(!problem.contains("canary"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_repeated_however_long(text in "[ -~]{0,40}", times in 1usize..50) {
            let canary = format!("canary{text}").repeat(times);
            for json in [
                serde_json::json!({ "user": canary }),
                serde_json::json!({ "user": 1, "status": canary }),
                serde_json::json!({ canary.as_str(): 1 }),
                serde_json::json!([canary]),
            ] {
                let problem = problem(&json.to_string());
                prop_assert!(!problem.contains("canary") && problem.len() <= LIMIT_BYTES, "{problem}");
            }
        }
    }
}
