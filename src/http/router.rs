//! Finds what a method and a path stand for. Patterns are literal segments and
//! `{name}`, which takes one segment, percent-decoded.

use foldhash::HashMap;
use percent_encoding::percent_decode_str;

use super::Method;

/// Nothing stands for the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No pattern matches the path.
    NotFound,
    /// The path knows other methods: the value of `Allow`.
    MethodNotAllowed(String),
}

struct Path<T> {
    segments: Vec<Option<&'static str>>,
    methods: Vec<(Method, T)>,
}

/// A table of what paths and methods stand for. A literal segment goes before a
/// name that stands at the same place.
pub struct Router<T> {
    paths: Vec<Path<T>>,
    /// Where those are that have no names: most requests publish, and need not be compared
    /// with every pattern.
    literal: HashMap<String, usize>,
}

impl<T> Router<T> {
    /// Of `(method, pattern, what it stands for)`.
    pub fn new(routes: impl IntoIterator<Item = (Method, &'static str, T)>) -> Router<T> {
        let mut paths: Vec<Path<T>> = Vec::new();
        for (method, pattern, target) in routes {
            let segments: Vec<Option<&'static str>> =
                pattern.split('/').skip(1).map(|segment| (!segment.starts_with('{')).then_some(segment)).collect();
            match paths.iter_mut().find(|path| path.segments == segments) {
                Some(path) => path.methods.push((method, target)),
                None => paths.push(Path { segments, methods: vec![(method, target)] }),
            }
        }
        paths.sort_by_key(|path| path.segments.iter().map(Option::is_none).collect::<Vec<bool>>());
        let literal = paths.iter().enumerate().filter_map(|(index, path)| {
            let segments: Option<Vec<&str>> = path.segments.iter().copied().collect();
            Some((format!("/{}", segments?.join("/")), index))
        });
        Router { literal: literal.collect(), paths }
    }

    /// What `method` on `path` stands for, and what stands in the place of its
    /// `{names}`. HEAD is answered where GET is.
    pub fn find(&self, method: &Method, path: &str) -> Result<(&T, Vec<String>), Miss> {
        let (path, values) = match self.literal.get(path) {
            Some(index) => (&self.paths[*index], Vec::new()),
            None => {
                let mut matching = self.paths.iter().filter_map(|it| Some((it, captures(&it.segments, path)?)));
                matching.next().ok_or(Miss::NotFound)?
            }
        };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        match path.methods.iter().find(|(known, _)| known == wanted) {
            Some((_, target)) => Ok((target, values)),
            None => Err(Miss::MethodNotAllowed(allow(path))),
        }
    }

    /// Patterns that both match some path: `/a/{id}` and `/a/b`. The first
    /// of each pair with its literal takes the path away from the second.
    pub fn overlaps(&self) -> Vec<String> {
        let show = |segments: &[Option<&str>]| {
            segments.iter().map(|segment| format!("/{}", segment.unwrap_or("{}"))).collect::<String>()
        };
        let mut found = Vec::new();
        for (index, one) in self.paths.iter().enumerate() {
            for other in &self.paths[index + 1..] {
                let both = one.segments.iter().zip(&other.segments);
                let alike = one.segments.len() == other.segments.len()
                    && both.into_iter().all(|(left, right)| left.is_none() || right.is_none() || left == right);
                if alike {
                    found.push(format!("{} and {}", show(&one.segments), show(&other.segments)));
                }
            }
            for (index, (method, _)) in one.methods.iter().enumerate() {
                if one.methods[index + 1..].iter().any(|(other, _)| other == method) {
                    found.push(format!("{method} {} twice", show(&one.segments)));
                }
            }
        }
        found
    }
}

/// What stands in the place of the pattern's names; none: it does not match. A
/// name takes no empty segment, and none that is not UTF-8 once decoded.
fn captures(segments: &[Option<&'static str>], path: &str) -> Option<Vec<String>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let mut values = Vec::new();
    for segment in segments {
        let part = parts.next()?;
        match segment {
            Some(literal) if *literal == part => {}
            Some(_) => return None,
            None if part.is_empty() => return None,
            None => values.push(percent_decode_str(part).decode_utf8().ok()?.into_owned()),
        }
    }
    parts.next().is_none().then_some(values)
}

fn allow<T>(path: &Path<T>) -> String {
    let mut names = Vec::new();
    for (method, _) in &path.methods {
        names.push(method.as_str());
        if method == Method::GET {
            names.push("HEAD");
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router<u8> {
        Router::new([
            (Method::GET, "/v1/things", 1),
            (Method::PUT, "/v1/things/{id}", 2),
            (Method::GET, "/v1/things/{id}", 3),
            (Method::POST, "/v1/things/{id}/go", 4),
        ])
    }

    #[test]
    fn paths_match_segment_by_segment() {
        let router = router();
        assert_eq!(router.overlaps(), Vec::<String>::new());
        for (method, path, target, values) in [
            (Method::GET, "/v1/things", 1, vec![]),
            (Method::HEAD, "/v1/things", 1, vec![]),
            (Method::PUT, "/v1/things/a", 2, vec!["a"]),
            (Method::GET, "/v1/things/a%2Fb", 3, vec!["a/b"]),
            (Method::POST, "/v1/things/a/go", 4, vec!["a"]),
        ] {
            let (found, captured) = router.find(&method, path).expect(path);
            assert_eq!((*found, captured), (target, values.into_iter().map(str::to_owned).collect()), "{path}");
        }
        for path in
            ["", "/", "/v1", "/v1/things/", "/v1/things/a/", "/v1/things/a/stop", "/v1/things/%ff", "/v1//things"]
        {
            assert_eq!(router.find(&Method::GET, path), Err(Miss::NotFound), "{path}");
        }
        for (method, path, allow) in [
            (Method::POST, "/v1/things", "GET, HEAD"),
            (Method::DELETE, "/v1/things/a", "PUT, GET, HEAD"),
            (Method::HEAD, "/v1/things/a/go", "POST"),
        ] {
            assert_eq!(router.find(&method, path), Err(Miss::MethodNotAllowed(allow.to_owned())), "{method} {path}");
        }
    }

    #[test]
    fn literals_go_before_names_and_overlaps_are_found() {
        let router = Router::new([
            (Method::GET, "/a/{id}", 1),
            (Method::PUT, "/a/b", 2),
            (Method::GET, "/c", 3),
            (Method::GET, "/c", 4),
        ]);
        assert_eq!(router.find(&Method::PUT, "/a/b"), Ok((&2, Vec::new())));
        assert_eq!(router.overlaps(), ["GET /c twice", "/a/b and /a/{}"]);
    }
}
