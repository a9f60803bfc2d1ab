"""Strings and statements with a secret in them, in the ways that secrets leak."""

from __future__ import annotations

DIALECTS = ["postgresql", "mysql", "sqlite", "clickhouse", None]
SECRET = "k4n4r1"
"""A word, so that it is one token of SQL too."""

# § is where the secret is; \\n is a new line.
_TEXTS = r"""
password=§
PASSWORD = "§"
Password: §
password => §
password:= '§'
"password":"§"
'password': b'§'
{\"password\":\"§\", \"a\": 1}
{\\\"password\\\":\\\"§\\\"}
password="a\"§"
password='it''s §'
password="§
password=(1, "§")
password={"a": {"b": "§"}}
password=§,user=x
password=x,§
password=x)§
password=x"§
Pwd=my §;Database=y
password = correct horse §
password: a, §
user[password]=§
user.password.hash=§
DB_PASSWORD=§ python x.py
export API_KEY='§'
run --password=§
run --password § --verbose
curl -u user:§ https://h
API Key: §
the client secret is: §
session: §
sessionid=§; path=/
X-CSRF-Token: §
cvv: §
pin=§
iban: §
ssn=§
Authorization: Bearer §
Authorization: Digest username="a", response="§"
Proxy-Authorization: Negotiate §
bearer   §
"Basic §"
Cookie: a=1; b=§
Set-Cookie: sid=§; Path=/
https://user:§@host/
https://§@host/
https://user:pw/§@host/
https://user:pw?§@host/
https://user:pw#§@host/
https://user:p@§@host/
https://user:pw §@host/
https://user:pw"§@host/
https://host/?a=§
https://host/?§
https://host/?a=1&§#x
https://host/#§
https://host/a;x=§/b?c=d
//user:§@host/
GET /path?code=§&state=1 HTTP/1.1
postgresql+psycopg://u:§@[::1]:5432/db
amqp://u:§@h1:1,u:§@h2:2/v
root:§@tcp(127.0.0.1:3306)/db
jdbc:oracle:thin:scott/§@h:1521:x
jdbc:postgresql://h/db?user=a&password=§
https%3A%2F%2Fuser%3A§%40host
password%3D§
<password>§</password>
<ns:password type="a">§</ns:password>
<input name="password" value="§">
{"name": "password", "value": "§"}
[(b'authorization', b'§'), (b'host', b'x')]
sk_live_§
ghp_§
AKIA1234§
eyJhbGciOiJIUzI1NiJ9.§.§
-----BEGIN RSA PRIVATE KEY-----\n§\n-----END RSA PRIVATE KEY-----
-----BEGIN PRIVATE KEY-----\n§
User(name='x', password='§')
password:\n  §
password: |\n  a\n  §
password: "multi\n§\nline"
password is §
IDENTIFIED BY '§'
with password "§"
Key (session_id)=(§) already exists
DETAIL:  Failing row contains (1, §, null).
invalid input syntax for type uuid: "§"
(IntegrityError) failed: t.a\n[SQL: INSERT INTO t VALUES ('§')]\n[parameters: ('§',)]\n(Background on this error at: x)
relation "x" does not exist\nLINE 1: SELECT * FROM x WHERE a = '§'\n                      ^
(1062, "Duplicate entry '§' for key 'users.email'")
(1064, "You have an error; use near '§ AND x' at line 1")
near "§": syntax error
Code: 62. DB::Exception: Syntax error: failed at position 8 ('§'): SELECT '§'
bad [type=x, input_value='§', input_type=str]
""".strip().split("\n")

# With other signs than those of ASCII: no-break spaces, full width.
_OTHER_TEXTS = ["token\u00a0=\u00a0§", "password\uff1d§", "password\uff1a §"]
LEAKING_TEXTS = [text.replace("\\n", "\n").replace("§", SECRET) for text in (*_TEXTS, *_OTHER_TEXTS)]

# In each dialect, whether it can read the statement or not. Regular expressions leak in many of them.
_STATEMENTS = r"""
SELECT '§'
SELECT 'it''s §'
SELECT 'it\'s §'
SELECT '\\', '§'
SELECT 'x\\\' §'
SELECT * FROM t WHERE a = "§"
SELECT * FROM t WHERE a = "it's §"
SELECT * FROM t WHERE a IS DISTINCT FROM "§"
SELECT * FROM t WHERE a IN ("§", '§', §)
SELECT * FROM t WHERE a LIKE "§"
SELECT E'it\'s §'
SELECT e'\' § \''
SELECT $$§$$
SELECT $tag$it's §$tag$
SELECT $tag$ $$ § $$ $tag$
SELECT U&'§', N'§', n'§', B'§', X'§'
SELECT _utf8'§', _latin1 '§'
SELECT q'[it's §]'
SELECT nq'!§!' FROM dual
SELECT 1 -- §
SELECT 1 --§
SELECT 1 # §
SELECT 1 /* § */
SELECT 1 /* /* */ § */
SELECT 1 /*! § */
SELECT /*+ § */ 1
SELECT 5--1 '§'
SELECT 'a' '§'
SELECT '§
SELECT 'O'§'
SELECT 'O'§'s'
SELECT '' § ''
SELECT ''-§-''
SELECT ''.§.''
SELECT ''(§)''
SELECT 1 FROM t WHERE x = 0x§
SELECT 1 FROM t WHERE x = 12§
SELECT 1 FROM t WHERE x = 1_§
SELECT 1 FROM t WHERE x = .5§
SELECT 1 FROM t WHERE x = $1§
INSERT INTO t VALUES ('§'), ("§"), (§)
INSERT INTO t (a) VALUES (lower('a')), (§('x'))
INSERT INTO t FORMAT CSV 1,§
INSERT INTO t FORMAT JSONEachRow {"a":"§"}
COPY t FROM stdin; §
SET PASSWORD = §
CREATE USER u IDENTIFIED BY §
ALTER ROLE u WITH PASSWORD §
CREATE OR REPLACE TEMPORARY USER u PASSWORD §
GRANT ALL ON *.* TO u IDENTIFIED BY §
PRAGMA key = §
ATTACH 'x' AS y KEY §
CALL f(§)
EXECUTE f (§)
NOTIFY §, '§'
UPDATE t SET password=§
DELETE FROM t WHERE token = §
DELETE user §
UPDATE the § please
SELECT 1; SET § = 1
SELECT {{ § }}
SELECT {# § #}
SELECT 'x' §
SELECT * FROM t WHERE s LIKE '%§\_%' ESCAPE '\' AND x = '§'
SELECT DATE '§', INTERVAL '§' DAY, '§'::text, 'a'||'§'
SELECT "a\" § \""
SELECT '§"', "§'"
SELECT [it's], '§', [it's]
SELECT * FROM t WHERE a = eyJ§§
GET user:§
SET § §
{"find": "§"}
db.users.find({name: "§"})
§
""".strip().split("\n")
_TYPOGRAPHIC = ["SELECT \u2018§\u2019", "SELECT \u201c§\u201d", "SELECT \u00ab§\u00bb"]

LEAKING_STATEMENTS = [text.replace("§", SECRET) for text in (*_STATEMENTS, *_TYPOGRAPHIC)]
