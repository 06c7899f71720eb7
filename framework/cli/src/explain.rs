//! What does an error code mean? The table of `docs/errors.md`, which a test holds against the
//! code, is the one source.

const ERRORS: &str = include_str!("../../pelton/docs/errors.md");

/// A row of the table.
struct Row {
    code: &'static str,
    meaning: &'static str,
    again: &'static str,
}

/// Explains one code, or lists all of them.
///
/// # Errors
///
/// If there is no such code.
pub(crate) fn explain(code: Option<&str>) -> Result<String, String> {
    let Some(asked) = code else {
        let lines: Vec<_> = rows().map(|row| format!("{}  {}", row.code, row.meaning)).collect();
        return Ok(lines.join("\n"));
    };
    // `304`, `0304` and `plt-0304` are what people type.
    let digits = asked.to_ascii_uppercase();
    let digits = digits.trim_start_matches("PLT").trim_start_matches('-').to_owned();
    let row = rows()
        .find(|row| row.code.trim_start_matches("PLT-") == format!("{digits:0>4}"))
        .ok_or_else(|| format!("there is no code {asked:?}; `pelton explain` lists them"))?;
    let again = match row.again {
        "" => String::new(),
        again => format!("\ndoes trying again help: {again}"),
    };
    Ok(format!("{}: {}{again}", row.code, row.meaning))
}

fn rows() -> impl Iterator<Item = Row> {
    ERRORS.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let code = cells.next().filter(|code| code.starts_with("PLT-"))?;
        let (meaning, again) = (cells.next()?, cells.next().unwrap_or(""));
        Some(Row { code, meaning, again: again.trim_end_matches('|').trim() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_explained_however_it_is_typed() {
        for typed in ["PLT-0304", "plt-0304", "0304", "304"] {
            let text = explain(Some(typed)).expect(typed);
            assert!(text.starts_with("PLT-0304: the offset to read is not in the log"), "{text}");
            assert!(text.contains("does trying again help: after"), "{text}");
        }
    }

    proptest::proptest! {
        /// `PROPTEST_CASES=1000000 cargo test -p pelton-cli` is the long form.
        #[test]
        fn any_argument_is_explained_or_refused(asked in "\\PC{0,40}|(PLT|plt)?-{0,3}[0-9]{0,9}") {
            match explain(Some(&asked)) {
                Ok(text) => assert!(text.starts_with("PLT-"), "{text}"),
                Err(problem) => assert!(problem.starts_with("there is no code"), "{problem}"),
            }
        }
    }

    #[test]
    fn an_unknown_code_is_refused_and_all_can_be_listed() {
        assert!(explain(Some("nonsense")).expect_err("no such code").contains("nonsense"));
        let all = explain(None).expect("the list");
        assert!(all.lines().count() > 20 && all.contains("PLT-0101"), "{all}");
    }
}
