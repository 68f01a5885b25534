//! The pages of the documentation, and what stands in them.

/// A page, by its path from the root.
pub(super) struct Page {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
}

macro_rules! pages {
    ($($name:literal),+ $(,)?) => {
        &[$(Page { name: $name, text: include_str!(concat!("../../../", $name)) }),+]
    };
}

/// Every page that is written for people.
pub(super) const PAGES: &[Page] = pages![
    "README.md",
    "CONTRIBUTING.md",
    "docs/adding-a-sink.md",
    "docs/adding-a-source.md",
    "docs/architecture.md",
    "docs/configuration.md",
    "docs/coverage.md",
    "docs/delivery.md",
    "docs/fields.md",
    "docs/performance.md",
    "docs/privacy.md",
    "docs/troubleshooting.md",
];

impl Page {
    pub(super) fn named(name: &str) -> &'static Self {
        PAGES.iter().find(|page| page.name == name).expect("a page of that name")
    }

    /// The fenced blocks in this language.
    pub(super) fn blocks(&self, language: &str) -> Vec<&'static str> {
        let (open, mut blocks) = (format!("```{language}\n"), Vec::new());
        for rest in self.text.split(&open).skip(1) {
            blocks.extend(rest.split("\n```").next());
        }
        blocks
    }

    /// Code in sentences and tables: what stands between backquotes outside of blocks.
    pub(super) fn code(&self) -> Vec<&'static str> {
        let prose = self.text.split("```").step_by(2);
        prose
            .flat_map(|prose| prose.split('`').skip(1).step_by(2))
            .filter(|code| !code.contains('\n'))
            .collect()
    }

    /// Lines that a shell would run, without comments and redirections.
    pub(super) fn shell(&self) -> Vec<&'static str> {
        let lines = self.blocks("sh").into_iter().flat_map(str::lines);
        lines.map(without_comment).filter(|line| !line.is_empty()).collect()
    }
}

fn without_comment(line: &str) -> &str {
    let line = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
    line.split(['|', '>']).next().unwrap_or_default().trim()
}
