"""What the comment on a pull request says of the commit that will be the head of the branch."""

from reconciler.notify.comment import NextHead, body

SIGN = "a commit that a merge, a squash or a rebase makes must itself be signed by a key that counts, as the new head of the branch"


def said(one: NextHead | None) -> str:
    return body("home", "a" * 40, "b" * 40, [], 60_000, next_head=one)


def test_of_a_newest_commit_that_would_be_trusted_it_says_so_and_what_else_may_become_the_head() -> None:
    assert f"Fast-forwarded, its newest commit would be trusted; {SIGN}." in said(NextHead(forward=True))


def test_of_one_that_would_be_refused_it_says_why_in_a_code_span() -> None:
    text = said(NextHead(True, "commit aaaa: by @everyone <img> is not signed"))
    assert "Fast-forwarded, its newest commit would be refused: `commit aaaa: by @everyone <img> is not signed`" in text
    assert f"that does not matter: {SIGN}." in text
    assert "### No stack is touched" in text, "it may still be merged"


def test_of_one_that_cannot_become_the_head_it_says_nothing_of_its_own_signature() -> None:
    text = said(NextHead(False, "commit aaaa is not signed"))
    assert f"It cannot be fast-forwarded: {SIGN}." in text
    assert "refused" not in text


def test_where_no_head_need_be_signed_it_says_nothing_of_heads() -> None:
    assert "signed" not in said(None)
