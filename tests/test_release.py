"The release check-list says what is missing, each point of it."

import subprocess

import pytest
import release

GOOD = {
    "settings.ini": "[DEFAULT]\nversion = 1.2.0\n", "cam_course/__init__.py": '__version__ = "1.2.0"\n',
    "CITATION.cff": "cff-version: 1.2.0\nversion: 1.2.0\n",
    "CHANGELOG.md": "# Changelog\n\n## 1.2.0 (2026-11-22)\n\n- New.\n\n## 1.1.0 (2026-10-01)\n",
}


def git(root, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path):
    for name, text in GOOD.items():
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_a_good_project_passes(project):
    assert release.versions_agree(project) == "1.2.0" and release.changelog_entry(project) == "2026-11-22"
    assert release.tag_free(project) == "v1.2.0" and len(release.clean_tree(project)) >= 7


@pytest.mark.parametrize(("check", "name", "old", "new", "words"), [
    ("versions_agree", "settings.ini", "1.2.0", "1.2", "no semantic version"),
    ("versions_agree", "cam_course/__init__.py", "1.2.0", "1.1.0", "make export"),
    ("versions_agree", "CITATION.cff", "\nversion: 1.2.0", "\nversion: 1.3.0", "CITATION.cff has 1.3.0"),
    ("changelog_entry", "CHANGELOG.md", "2026-11-22", "unreleased", "date of the release"),
    ("changelog_entry", "CHANGELOG.md", "## 1.2.0", "## 1.3.0", "not 1.2.0"),
    ("changelog_entry", "CHANGELOG.md", "- New.", "", "says nothing"),
    ("clean_tree", "CHANGELOG.md", "New", "Newer", "CHANGELOG.md"),
])
def test_what_is_missing_is_named(project, check, name, old, new, words):
    text = (project/name).read_text()
    assert old in text
    (project/name).write_text(text.replace(old, new))
    with pytest.raises(release.Missing, match=words): getattr(release, check)(project)


def test_a_tag_that_is_there(project):
    git(project, "tag", "-a", "v1.2.0", "-m", "x")
    with pytest.raises(release.Missing, match="v1.2.0 is there"): release.tag_free(project)


def test_untracked_files_count(project):
    (project/"new.txt").write_text("x")
    with pytest.raises(release.Missing, match=r"new\.txt"): release.clean_tree(project)


def test_this_project_agrees_with_itself():
    assert release.versions_agree() and release.library_exported()


def test_the_report_goes_on_after_a_failure():
    def no(): raise release.Missing("why")
    assert [passed for passed, _ in release.report([no, lambda: "x"])] == [False, True]
