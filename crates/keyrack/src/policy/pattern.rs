//! The path of a rule, cut into what each segment has to be.

use super::fold::folded;
use super::path::{MOST_PATH_SEGMENTS, Path};

/// What a segment has to be. The order is that of precedence: the more precise first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Piece {
    /// These bytes.
    Literal(Box<[u8]>),
    /// `*`: anything but empty.
    One,
    /// `**`: this segment and all that follow, whatever they are.
    Tail,
}

/// What each segment has to be, in order. Of two patterns that match one path, the smaller is the more precise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pattern(Box<[Piece]>);

impl Pattern {
    /// Cuts the path of a rule, without its first `/`, at every `/`.
    pub(super) fn of(path: &str) -> Self {
        let pieces = path.strip_prefix('/').unwrap_or(path).split('/').map(|segment| match segment {
            "*" => Piece::One,
            "**" => Piece::Tail,
            literal => Piece::Literal(literal.as_bytes().into()),
        });
        Self(pieces.collect())
    }

    /// What a careless reader makes of it: see [`folded`]; a last empty segment is dropped, unless it is the only one.
    pub(super) fn folded(&self) -> Self {
        let kept = match &*self.0 {
            [before @ .., Piece::Literal(last)] if last.is_empty() && !before.is_empty() => before,
            all => all,
        };
        let pieces = kept.iter().map(|piece| match piece {
            Piece::Literal(literal) => Piece::Literal(folded(literal).collect()),
            Piece::One | Piece::Tail => piece.clone(),
        });
        Self(pieces.collect())
    }

    pub(super) const fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Whether it matches a path exactly as written. Slow and plain, for explanations.
    pub(super) fn matches(&self, path: &Path<'_>) -> bool {
        let mut segments = path.as_str().split('/').skip(1).take(usize::from(MOST_PATH_SEGMENTS));
        for piece in &self.0 {
            let Some(segment) = segments.next() else { return false };
            match piece {
                Piece::Literal(literal) if **literal == *segment.as_bytes() => {}
                Piece::One if !segment.is_empty() => {}
                Piece::Literal(_) | Piece::One => return false,
                Piece::Tail => return true,
            }
        }
        segments.next().is_none()
    }

    /// Whether some path matches both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        for (one, two) in self.0.iter().zip(&other.0) {
            let fits = match (one, two) {
                (Piece::Tail, _) | (_, Piece::Tail) => return true,
                (Piece::Literal(one), Piece::Literal(two)) => one == two,
                (Piece::One, Piece::Literal(literal)) | (Piece::Literal(literal), Piece::One) => !literal.is_empty(),
                (Piece::One, Piece::One) => true,
            };
            if !fits {
                return false;
            }
        }
        self.0.len() == other.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_segment_by_segment() {
        let matches = |pattern: &str, path: &str| Pattern::of(pattern).matches(&Path::scan(path.as_bytes()).unwrap());
        for (pattern, path) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/*", "/a"),
            ("/a/*/c", "/a/b/c"),
            ("/*/", "/a/"),
            ("/**", "/"),
            ("/**", "/a/b/"),
            ("/a/**", "/a/"),
            ("/a/**", "/a/b/c"),
            ("/*", "/*"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/", "/a"),
            ("/a", "/"),
            ("/a", "/a/"),
            ("/a/", "/a"),
            ("/a", "/A"),
            ("/a", "/ab"),
            ("/ab", "/a"),
            ("/*", "/"),
            ("/*", "/a/b"),
            ("/a/*", "/a/"),
            ("/a/**", "/a"),
            ("/a/**", "/b/c"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn the_more_precise_pattern_is_the_smaller() {
        let ordered = ["/a/b", "/a/*", "/a/**", "/*/b", "/*/*", "/*/**", "/**"];
        assert!(ordered.map(Pattern::of).is_sorted());
    }

    #[test]
    fn folding_drops_case_and_a_last_slash() {
        let folds = |one: &str, two: &str| Pattern::of(one).folded() == Pattern::of(two).folded();
        assert!(folds("/A/*/b%40/", "/a/*/B@"));
        assert!(folds("/*/", "/*"));
        assert!(folds("/", "/"));
        assert!(!folds("/", "/a"));
        assert!(!folds("/%2A", "/*"), "an encoded star is a character");
        assert_eq!(Pattern::of("/").folded(), Pattern::of("/"));
    }

    #[test]
    fn patterns_overlap_if_one_path_matches_both() {
        let overlap = |one: &str, two: &str| {
            let (one, two) = (Pattern::of(one), Pattern::of(two));
            assert_eq!(one.overlaps(&two), two.overlaps(&one));
            one.overlaps(&two)
        };
        assert!(overlap("/a/*", "/*/b") && overlap("/**", "/") && overlap("/a/**", "/*/b/c") && overlap("/*", "/*"));
        assert!(!overlap("/a", "/b") && !overlap("/a", "/a/b") && !overlap("/*", "/") && !overlap("/a/**", "/a"));
    }
}
