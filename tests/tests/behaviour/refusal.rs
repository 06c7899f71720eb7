//! How is a worker to end that can't do what it is told? With one message, its code, and the exit
//! code that the documentation gives for it.

use libtest_mimic::Failed;
use pelton_tests::Ended;

use crate::{insist, say};

const DOCUMENTED: &str = include_str!("../../../framework/pelton/docs/errors.md");

/// The end that is expected of a worker.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    pub(crate) code: &'a str,
    pub(crate) exit: i32,
    /// What its message must hold: what is wrong, and the way out.
    pub(crate) says: &'a [&'a str],
}

impl Refusal<'_> {
    pub(crate) fn hold(&self, ended: &Ended) -> Result<(), Failed> {
        let Self { code, exit, says } = self;
        let reasons = ended.reasons();
        let [reason] = reasons[..] else {
            return Err(format!("not one reason but {reasons:?}\n{}", ended.log).into());
        };
        insist(reason.starts_with(&format!("{code}: ")), || format!("not {code} but {reason}"))?;
        for part in *says {
            insist(reason.contains(part), || format!("{part:?} is not in: {reason}"))?;
        }
        insist(ended.termination_log == format!("error: {reason}\n"), || {
            format!("the termination log has {:?}, not {reason}", ended.termination_log)
        })?;
        insist(ended.status.code() == Some(*exit), || format!("{}: {reason}", ended.status))?;
        insist(!ended.log.contains("panicked at"), || ended.log.clone())?;
        insist(self.is_documented(), || format!("errors.md does not know {code} with {exit}"))?;
        say(&format!("exit code {exit}: {reason}"));
        Ok(())
    }

    /// The table of codes has the code; that of exit codes has it in the row of its own.
    fn is_documented(&self) -> bool {
        let number = self.code.trim_start_matches("PLT-");
        let class = format!("{}x", &number[..3]);
        let is_row = |line: &&str| line.starts_with(&format!("| {} |", self.exit));
        let exits = DOCUMENTED.lines().find(is_row).unwrap_or_default();
        DOCUMENTED.contains(&format!("| {} |", self.code))
            && (exits.contains(number) || exits.contains(&class))
    }
}
