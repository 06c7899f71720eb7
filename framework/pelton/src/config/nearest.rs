//! Which known word did the user mean?

/// The candidate nearest to `word`, if one is near enough to be what was meant.
///
/// Near enough: at most a third of the longer word's letters differ, or one contains the other.
/// `-`, `_`, `.` and case don't count. Of equally near candidates the first wins.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = folded(word);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let known = folded(candidate);
            let distance = distance(&wanted, &known);
            let longer = wanted.len().max(known.len());
            let close = distance * 3 <= longer.max(3);
            let inside = wanted.len().min(known.len()) >= 4
                && (contains(&known, &wanted) || contains(&wanted, &known));
            (close || inside).then_some((!close, distance, candidate))
        })
        .min_by_key(|&(only_inside, distance, _)| (only_inside, distance))
        .map(|(_, _, candidate)| candidate)
}

/// Lower case, separators all alike, no longer than any word worth comparing.
fn folded(word: &str) -> Vec<char> {
    let alike = |letter: char| {
        if matches!(letter, '-' | '.') { '_' } else { letter }
    };
    word.chars().take(100).map(|letter| alike(letter.to_ascii_lowercase())).collect()
}

fn contains(long: &[char], short: &[char]) -> bool {
    long.windows(short.len()).any(|window| window == short)
}

/// Levenshtein's distance, two swapped neighbours counted once: the slips between two words.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = above[j] + usize::from(a != b);
            least = least.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KEYS: [&str; 4] = ["group_id", "commit_interval", "bootstrap_servers", "client_id"];

    #[test]
    fn a_typing_error_finds_its_key() {
        assert_eq!(nearest("comit_interval", KEYS), Some("commit_interval"));
        assert_eq!(nearest("bootstrap-server", KEYS), Some("bootstrap_servers"));
        assert_eq!(nearest("Group.Id", KEYS), Some("group_id"));
        assert_eq!(nearest("commit_interval_ms", KEYS), Some("commit_interval"));
        assert_eq!(nearest("inof", ["warn", "info"]), Some("info"));
    }

    #[test]
    fn a_word_that_resembles_nothing_finds_nothing() {
        assert_eq!(nearest("colour", KEYS), None);
        assert_eq!(nearest("", KEYS), None);
        assert_eq!(nearest("x", []), None);
    }
}
