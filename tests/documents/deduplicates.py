

# Follows the document's code: what `handle` does with a genuine request whose work
# fails at first, with the same again, and with one that is not genuine.
import sqlite3

works = []


def fails(database, event):
    database.execute("INSERT INTO seen (id) VALUES ('half of the work')")
    raise RuntimeError("the work failed")


def is_done(database, event):
    works.append(event["data"]["door"])


def tell(requests):
    genuine, forged = requests
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE seen (id TEXT PRIMARY KEY)")
    try:
        handle(database, *genuine, fails)
    except RuntimeError:
        pass
    failed = database.execute("SELECT count(*) FROM seen").fetchone()[0]
    answers = [handle(database, *request, is_done) for request in (genuine, genuine, forged)]
    return {"failed": failed, "answers": answers, "works": works}
