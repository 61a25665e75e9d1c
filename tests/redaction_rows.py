"""Texts with something to redact, labelled by kind, and texts with nothing, that look as if there were.

What is to be found stands in ⟦ ⟧. ``@name`` in it stands for a made-up key of that form (MAKERS): none is written here, for
scanners of secrets would rightly object. Numbers of people are from ranges that nobody has, cards from test ranges.
Some rows are there to be missed: what people write has no fixed form.
"""

from __future__ import annotations

import base64
import json
import random
import re
import string

LETTERS = string.ascii_letters + string.digits
_MARK = re.compile("⟦(.*?)⟧", re.DOTALL)


def _of(chars: str, n: int):
    return lambda rng: "".join(rng.choice(chars) for _ in range(n))


def _b64(rng: random.Random, n: int) -> str:
    return base64.b64encode(rng.randbytes(n)).decode()


def _jwt(rng: random.Random) -> str:
    def part(value) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    tail = base64.urlsafe_b64encode(rng.randbytes(32)).decode().rstrip("=")
    body = {"sub": str(rng.randrange(10**6)), "iat": rng.randrange(10**9)}
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(body)}.{tail}"


def _pem(kind: str):
    def make(rng: random.Random) -> str:
        body = "\n".join(_b64(rng, 48) for _ in range(6))
        return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----"

    return make


MAKERS = {
    "openai": lambda r: "sk-" + _of(LETTERS, 48)(r),
    "openai_project": lambda r: "sk-proj-" + _of(LETTERS + "-_", 60)(r) + "A",
    "anthropic": lambda r: "sk-ant-" + "api03-" + _of(LETTERS + "-_", 92)(r) + "A",
    "aws": lambda r: r.choice(("AKIA", "ASIA")) + _of(string.ascii_uppercase + "234567", 16)(r),
    "aws_secret": lambda r: _of(LETTERS + "/+", 38)(r) + "a7",
    "google": lambda r: "AIza" + _of(LETTERS + "-_", 34)(r) + "x",
    "google_client": lambda r: "GOCSPX-" + _of(LETTERS + "-_", 27)(r) + "x",
    "google_oauth": lambda r: "ya29." + _of(LETTERS + "-_", 80)(r),
    "github": lambda r: r.choice(("ghp_", "gho_", "ghs_")) + _of(LETTERS, 36)(r),
    "github_fine": lambda r: "github_pat_" + _of(LETTERS, 22)(r) + "_" + _of(LETTERS, 59)(r),
    "gitlab": lambda r: "glpat-" + _of(LETTERS + "-_", 19)(r) + "x",
    "slack": lambda r: r.choice(("xoxb-", "xoxp-")) + _of(string.digits, 12)(r) + "-" + _of(LETTERS, 24)(r),
    "slack_hook": lambda r: (
        f"T{_of(string.ascii_uppercase, 8)(r)}/B{_of(string.ascii_uppercase, 8)(r)}/{_of(LETTERS, 24)(r)}"
    ),
    "stripe": lambda r: r.choice(("sk_", "rk_")) + r.choice(("live_", "test_")) + _of(LETTERS, 24)(r),
    "stripe_hook": lambda r: "whsec_" + _of(LETTERS, 32)(r),
    "npm": lambda r: "npm_" + _of(LETTERS, 36)(r),
    "pypi": lambda r: "pypi-" + "AgEIcHlwaS5vcmc" + _of(LETTERS + "-_", 100)(r) + "x",
    "hf": lambda r: "hf_" + _of(LETTERS, 34)(r),
    "jwt": _jwt,
    "pem": _pem(""),
    "pem_rsa": _pem("RSA "),
    "pem_ec": _pem("EC "),
    "pem_ssh": _pem("OPENSSH "),
    "hex": _of("0123456789abcdef", 32),
    "mixed": _of(LETTERS, 27),
}

_KEY_TEXTS = (
    "why does this fail with 401? client = Client(api_key='{}')",
    "my key is {} but I keep getting rate limited, what now?",
    "export THE_KEY={}\npython main.py\nTraceback (most recent call last): ...",
    'curl -s https://api.example.com/v1/models -H "x-api-key: {}"',
    "I accidentally committed {} to a public repo. How do I rotate it?",
    '{"name": "prod", "value": "{}", "enabled": true}',
    "# .env\nDEBUG=1\nSERVICE={}\nPORT=8080",
    "docker run -e KEY={} -p 80:80 app:latest",
    "Please rewrite this config as TOML:\nservice:\n  credentials:\n    id: {}\n  retries: 3",
    "is this a valid key format: {}?",
    "const k = `{}`; // TODO move to vault",
    "({})",
    "Summarise the incident: at 10:42 the key {}, issued to the batch job, was seen in a log line.",
    "os.environ['X'] = \"{}\"\nprint(call())",
    "ENV KEY {}\nRUN make",
    "El token es {} y no funciona",
    "curl -u {}: https://api.example.com/v1/charges",
    "key1={},key2=none",
)


def _keys(*makers: str) -> list[str]:
    return [text.replace("{}", f"⟦@{makers[i % len(makers)]}⟧") for i, text in enumerate(_KEY_TEXTS)]


POSITIVES: dict[str, list[str]] = {
    "openai_key": _keys("openai", "openai_project"),
    "anthropic_key": _keys("anthropic"),
    "aws_key": _keys("aws"),
    "google_key": _keys("google", "google_client", "google_oauth"),
    "github_token": [*_keys("github", "github_fine"), "git clone https://⟦@github⟧@github.com/acme/app.git"],
    "gitlab_token": _keys("gitlab"),
    "slack_token": [
        *_keys("slack"),
        "POST to https://hooks.slack.com/services/⟦@slack_hook⟧ with a JSON body",
        "the webhook (hooks.slack.com/services/⟦@slack_hook⟧) returns invalid_payload",
    ],
    "stripe_key": _keys("stripe", "stripe_hook"),
    "npm_token": [*_keys("npm"), "//npm.example.com/:_authToken=⟦@npm⟧"],
    "pypi_token": [*_keys("pypi"), "[pypi]\nusername = __token__\npassword = ⟦@pypi⟧"],
    "hf_token": _keys("hf"),
    "jwt": [*_keys("jwt"), "decode this for me: ⟦@jwt⟧", "Cookie: session=⟦@jwt⟧; theme=dark"],
    "private_key": [
        text.replace("{}", f"⟦@{('pem', 'pem_rsa', 'pem_ec', 'pem_ssh')[i % 4]}⟧")
        for i, text in enumerate(
            (
                "why does openssl reject this?\n{}",
                "{}",
                "cat key.pem\n{}\n$ ssh -i key.pem host",
                "here is my key, convert it to PKCS8:\n\n{}\n\nthanks!",
                "tls:\n  key: |\n{}",
                "KEY = '''{}'''",
                "The deploy key below stopped working yesterday.\n{}\nAny idea?",
                "const pem = `{}`;",
                "<key>{}</key>",
                "Explain each line of\n{}",
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n{}",
                "Is this a 2048 bit key? {}",
                "paste: {} end of paste",
                "First {} and then nothing.",
                "how do I add a passphrase to\n{}\nwith ssh-keygen",
            )
        )
    ],
    "bearer": [
        'curl https://api.example.com/me -H "Authorization: Bearer ⟦@mixed⟧"',
        "headers = {'Authorization': 'Bearer ⟦@hex⟧'}",
        "Authorization: Basic ⟦dXNlcjpwYXNzd29yZDEyMw==⟧",
        "GET /v1/items HTTP/1.1\nHost: api.example.com\nauthorization: bearer ⟦@mixed⟧\n",
        "fetch(url, {headers: {Authorization: `Bearer ⟦@mixed⟧`}})",
        "http --auth-type=bearer GET x 'Authorization:Bearer ⟦@hex⟧'",
        "the proxy logs show Bearer ⟦@mixed⟧ in plain text, is that bad?",
        "req.Header.Set(\"Authorization\", \"Bearer ⟦@hex⟧\")",
        "-H 'Authorization: Bearer ⟦@mixed⟧' -H 'Accept: */*'",
        "swagger: click authorize and paste Bearer ⟦@mixed⟧",
        "Proxy-Authorization: Basic ⟦YWxhZGRpbjpvcGVuc2VzYW1lMQ==⟧",
        "got 403 with Bearer ⟦@hex⟧.",
        "session.headers.update({\"authorization\": \"Bearer ⟦@mixed⟧\"})",
        "wget --header='Authorization: Bearer ⟦@mixed⟧' https://x.example/y",
        "Explain this trace: -> Bearer ⟦@hex⟧ <- 200",
        "Authorization: Bearer ⟦3f2c⟧",
    ],
    "url_password": [
        "postgres://app:⟦s3cr3t-pw⟧@db.example.com:5432/orders",
        "DATABASE_URL=postgresql://orders_rw:⟦Tr0ub4dor⟧@10.0.0.4/orders?sslmode=require",
        "redis://default:⟦f00bar99⟧@cache:6379/0 refuses connections",
        "mongodb+srv://root:⟦hunter2⟧@cluster0.example.net/test",
        "amqp://guest:⟦guest⟧@localhost:5672/%2f",
        "git clone https://deploy:⟦@mixed⟧@git.example.com/acme/app.git",
        "pip install --index-url https://ci:⟦@hex⟧@pypi.example.com/simple pkg",
        "ftp://anna:⟦blumen123⟧@files.example.org/report.csv",
        "create_engine('mysql+pymysql://root:⟦toor⟧@127.0.0.1/shop')",
        "curl https://admin:⟦admin⟧@router.example/status",
        "smtp://mailer:⟦p%40ss%21⟧@smtp.example.com:587",
        "my connection string is postgres://u:⟦x9!kd⟧@h/d, why does it time out?",
        "HTTPS_PROXY=http://user:⟦pass⟧@proxy.example:3128",
        "jdbc is different but sqlalchemy uses oracle://scott:⟦tiger⟧@host/sid",
        'url = "https://⟦@hex⟧@sentry.example.io/42"',
        "nats://svc:⟦Q7wxy-22⟧@nats-0.example:4222,nats://svc:⟦Q7wxy-22⟧@nats-1.example:4222",
    ],
    "secret": [
        "password = '⟦correcthorse⟧'",
        'db.connect(user="app", password="⟦Summer2024!⟧")',
        "DB_PASSWORD=⟦n0tSoSecret⟧",
        "spring.datasource.password: ⟦S3cure#Pw⟧",
        "my password is ⟦hunter42⟧, why can I not log in?",
        "the wifi password is: ⟦Blue-Tiger-77⟧",
        "sshpass -p hunter42 ssh root@host  # or PASSWORD=⟦hunter42⟧",
        'API_KEY="⟦@mixed⟧"',
        "x-api-key: ⟦@hex⟧",
        "client_secret: ⟦@mixed⟧",
        "aws_secret_access_key = ⟦@aws_secret⟧",
        "AWS_SECRET_ACCESS_KEY=⟦@aws_secret⟧",
        "'access_token': '⟦@mixed⟧', 'expires_in': 3600",
        "SECRET_KEY = '⟦django-insecure-8x(2!kq^7⟧'",
        "AccountKey=⟦@aws_secret⟧;EndpointSuffix=core.windows.net",
        "{\"passwd\":\"⟦letmein99⟧\"}",
        "-e POSTGRES_PASSWORD=⟦pg1234pg⟧ postgres:16",
        "auth_token = \"⟦@hex⟧\"",
        "passphrase: ⟦korrekt#pferd⟧",
        "pwd=⟦Admin@123⟧;Server=tcp:sql.example.net",
        "password => '⟦rails4ever⟧',",
        "signing_key := `⟦@mixed⟧`",
        "encryption key = ⟦@hex⟧",
        "please use the passcode ⟦482915⟧ for the door",
        "our shared secret: ⟦three blind mice⟧",
        'log line: {\\"user\\": \\"anna\\", \\"password\\": \\"⟦Winter-2023⟧\\"}',
        "mysql -u root --password ⟦s3cr3tpw⟧ shop",
        "vault login --token ⟦@mixed⟧",
        "<property><password>⟦tomcat77⟧</password></property>",
        "I set the root password to ⟦hunter42⟧ yesterday",
    ],
    "email": [
        "write a reply to ⟦anna.schmidt@example.com⟧ saying I am ill",
        "From: ⟦j.doe+news@mail.example.co.uk⟧\nSubject: invoice",
        "extract the emails: ⟦a@b.io⟧; ⟦first_last@sub.example.org⟧",
        "<⟦info@example.museum⟧>",
        "my address is ⟦x.y-z@example-company.de⟧.",
        "mailto:⟦sales@example.com⟧?subject=hi",
        "user ⟦o'brien@example.ie⟧ cannot log in",
        "INSERT INTO users VALUES (1, '⟦kim@example.kr⟧', 'Kim')",
        "CC ⟦LEGAL@EXAMPLE.COM⟧ on everything",
        "git config user.email ⟦dev@example.dev⟧",
        "Author: Ana <⟦ana.p@example.pt⟧>",
        "contact(⟦me@example.me⟧)",
        "name,mail\nBo,⟦bo@example.se⟧\nEva,⟦eva@example.cz⟧",
        "ist ⟦müller@example.de⟧ gültig?",
        "reach me: jo at example dot org or ⟦jo@example.org⟧",
        "\"email\":\"⟦42@numbers.example⟧\",",
        "schreib an ⟦kontakt@beispiel.versicherung⟧ bitte",
        "my mail is ⟦jo (at) example.org⟧",
    ],
    "phone": [
        "call me at ⟦(415) 555-0132⟧ after six",
        "tel: ⟦+1 415-555-0132⟧",
        "My number is ⟦415-555-0199⟧, text me",
        "fax ⟦212.555.0143⟧",
        "+44 drama numbers such as ⟦+44 20 7946 0958⟧ are safe",
        "London office: ⟦020 7946 0018⟧",
        "UK mobile ⟦07700 900123⟧ rings out",
        "Berlin: ⟦030 23125 004⟧",
        "Handy ⟦0171 3920077⟧ bitte anrufen",
        "appelle-moi au ⟦01 99 00 12 34⟧",
        "mon portable: ⟦+33 6 39 98 12 34⟧",
        "WhatsApp ⟦+91 98765 43210⟧ for the quote",
        "phone ⟦4155550123⟧",
        "Sydney: ⟦(02) 5550 1234⟧ or mobile ⟦0491 570 156⟧",
        "Tokyo ⟦03-1234-5678⟧",
        "Madrid, ⟦612 34 56 78⟧",
        "São Paulo ⟦(11) 95555-0123⟧",
        "Beijing ⟦138 0013 8000⟧",
        "+49 style: ⟦+49 (0)30 23125 004⟧",
        "Customer Jane Roe, ⟦+353 1 555 0123⟧, wants a refund",
        "dial ⟦1-800-555-0199⟧ toll free",
        "contact: ⟦+4915112345678⟧",
        "Zürich ⟦044 668 18 00⟧",
        "her cell ⟦555-0147⟧",
        "⟦4155550177⟧ is where he can be reached",
    ],
    "credit_card": [
        "my card ⟦4111 1111 1111 1111⟧ was declined",
        "pan=⟦4242424242424242⟧&exp=0930",
        "Visa ⟦4012-8888-8888-1881⟧, cvv on request",
        "Amex ⟦3782 822463 10005⟧",
        "amex ⟦371449635398431⟧",
        "MC ⟦5555 5555 5555 4444⟧",
        "Mastercard ⟦5105105105105100⟧ expired",
        "2-series ⟦2223 0031 2200 3222⟧",
        "Discover ⟦6011 1111 1111 1117⟧",
        "discover: ⟦6011000990139424⟧.",
        "Diners ⟦3056 930902 5904⟧",
        "JCB ⟦3530 1113 3330 0000⟧",
        "UnionPay ⟦6200 0000 0000 0005⟧",
        '{"number": "⟦4000056655665556⟧"}',
        "charge ⟦4000 0025 0000 3155⟧ 20 euros",
        "is ⟦4917610000000000⟧ a valid number?",
        "card no.⟦5200828282828210⟧,12/29",
        "the card is ⟦4111 1111 11111111⟧ I think",
    ],
    "iban": [
        "transfer it to ⟦DE89 3704 0044 0532 0130 00⟧",
        "IBAN: ⟦GB29NWBK60161331926819⟧",
        "⟦FR14 2004 1010 0505 0001 3M02 606⟧ is my account",
        "konto ⟦AT61 1904 3002 3457 3201⟧ BIC BKAUATWW",
        "⟦CH93 0076 2011 6238 5295 7⟧",
        "nl rekening ⟦NL91ABNA0417164300⟧",
        "⟦ES91 2100 0418 4502 0005 1332⟧, Banco",
        "IT: ⟦IT60X0542811101000000123456⟧",
        "⟦BE68 5390 0754 7034⟧ from Brussels",
        "pay ⟦SE45 5000 0000 0583 9825 7466⟧ today",
        "⟦PL61 1090 1014 0000 0712 1981 2874⟧",
        "⟦NO93 8601 1117 947⟧ or cash",
        "Portugal (⟦PT50 0002 0123 1234 5678 9015 4⟧)",
        "⟦DK50 0040 0440 1162 43⟧ works too",
        "⟦IE29-AIBK-9311-5212-3456-78⟧",
        "konto: ⟦de89 3704 0044 0532 0130 00⟧",
    ],
    "us_ssn": [
        "my SSN is ⟦078-05-1120⟧",
        "Social Security number: ⟦219-09-9999⟧",
        "ssn=⟦457-55-5462⟧&dob=1970-01-01",
        "employee ⟦123-45-6789⟧ was paid twice",
        "fill in W-4 for John Roe, ⟦321-54-9876⟧",
        "SSN ⟦512 33 4477⟧",
        "ssn: ⟦512334477⟧",
        "name,ssn\nRoe,⟦601-22-3344⟧\nDoe,⟦602-22-3344⟧",
        "social security no. ⟦410-11-2233⟧?",
        "is ⟦219-09-9998⟧ a real one?",
        "(⟦534-22-1199⟧)",
        "the tax form lists ⟦345-67-8901⟧.",
        '"ssn":"⟦231-44-5566⟧"',
        "Her social security number, ⟦111-22-3333⟧, was leaked",
        "id ⟦222-33-4444⟧ / name Roe",
        "tax id ⟦345678901⟧",
    ],
    "ip_address": [
        "block ⟦203.0.113.7⟧ in nginx",
        "⟦198.51.100.24⟧ - - [10/Oct/2024:13:55:36 +0000] \"GET / HTTP/1.1\" 200",
        "ssh root@⟦192.0.2.10⟧",
        "ping ⟦2001:db8::1⟧",
        "ping ⟦2001:db8:0:1:1:1:1:1⟧ fails",
        "http://⟦203.0.113.9⟧:8080/x",
        "X-Forwarded-For: ⟦203.0.113.5⟧, ⟦198.51.100.2⟧",
        "the client was ⟦203.0.113.77⟧.",
        "whois ⟦192.0.2.44⟧",
        "iptables -A INPUT -s ⟦198.51.100.0⟧/24 -j DROP",
        "host=⟦192.0.2.1⟧",
        "[⟦2001:db8:85a3::8a2e:370:7334⟧]:443",
        "geo locate ⟦203.0.113.200⟧ please",
        "from=⟦198.51.100.99⟧ to=⟦192.0.2.3⟧",
        "ip ⟦fe80::1ff:fe23:4567:890a⟧ dev eth0",
    ],
}  # fmt: skip


def row(text: str, rng: random.Random) -> tuple[str, list[str]]:
    """The text as somebody would write it, and what in it is to be found."""
    found: list[str] = []

    def fill(match: re.Match[str]) -> str:
        value = match[1]
        found.append(MAKERS[value[1:]](rng) if value.startswith("@") else value)
        return found[-1]

    return _MARK.sub(fill, text), found


NEGATIVES = """\
what is the capital of japan
upgrade from 1.2.3.4 to 1.2.3.5 breaks the build
pip install numpy==2.2.0 pandas==3.0.1
Chrome/120.0.6099.109 Safari/537.36
python 3.11.7 vs 3.12.0a1
commit 9b0acad0f2c7d1b3e4f5a6b7c8d9e0f1a2b3c4d5 broke it
sha256:3a7bd3e2360a3d29eea436fcfb7e44c735d117c42d1c1835420b6b9942dd4f1b
md5 is d41d8cd98f00b204e9800998ecf8427e for the empty string
explain uuid 550e8400-e29b-41d4-a716-446655440000
018f3c5e-7b2a-7cc3-98d4-2f6f1c0a9b1d is a version 7 uuid
order 123-4567890-1234567 has not arrived
order number 100023456789 is late
invoice INV-2024-000123 over 1,234.56 EUR
tracking number 1Z999AA10123456784
DHL 00340434161094042557
ISBN 978-3-16-148410-0 is out of print
isbn 0-306-40615-2
doi:10.1145/3290605.3300233
arXiv:2406.18665v2
RFC 9562 and RFC 2822
2024-01-15T10:30:00Z
2024-01-15 10:30:00.123456+00:00
at 10:42:13 the job failed
01/02/2024 or 02/01/2024?
15.01.2024 bis 20.01.2024
1700000000 seconds since the epoch is when?
timestamp 1700000000123 in milliseconds
meeting from 09:00-17:30
the years 1914-1918 and 1939-1945
pi is 3.14159265358979
e = 2.718281828459045
1,234,567.89 + 987,654.32
123456789 * 987654321
what is 2^64 = 18446744073709551616
fibonacci: 1 1 2 3 5 8 13 21 34 55 89 144 233
1 2 3 4 5 6 7 8 9 10 11 12
01 02 03 04 05 06 07 08 09 10
[10, 20, 30, 40, 50, 60, 70, 80]
matrix [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
coordinates 52.520008, 13.404954
lat=-33.868820 lon=151.209290
48°51'24.1"N 2°21'03.0"E
zip code 90210-1234
51 Franklin St, Fifth Floor, Boston, MA 02110-1301 USA
Metrika 55(1) (2002) 111-123
[+0.42439636, 0.61970543, -0.19320542]
'max_input_tokens': batch_1_day_max_input_tokens
10115 Berlin
the population is 83 200 000
speed of light 299 792 458 m/s
avogadro 6.02214076e23
0x7ffeefbff5c8
color #ff8800 and #336699cc
rgba(255, 136, 0, 0.5)
width: 1200px; height: 630px
resolution 3840x2160 at 144 Hz
model number WH-1000XM5
part no. 5901234123457 (EAN)
barcode 4006381333931
flight LH 441 on 12 May
room 1204, floor 12
score 21-19, 18-21, 15-12
ratio 16:9 or 4:3
chapter 3.2.1, page 147
section 230 of title 47
$1,299.00 for 12 months
interest of 3.75 % on 250,000
in 2023 revenue rose from 4,512 to 5,018 million
HTTP 404, 500 and 503
port 5432 and 6379 are open
127.0.0.1:8080 refuses
localhost:3000
kubectl get pods -n kube-system
docker run -p 8080:80 nginx:1.25.3
git@github.com:acme/app.git
git clone git@gitlab.example.com:team/project.git
icon@2x.png and icon@3x.png
@decorator def f(): pass
@media (max-width: 600px) {}
npm i react@18.2.0 lodash@4.17.21
user@host:~$ ls
what does @Override mean in Java?
follow @python on social media
foo@bar is not an address
a @ b is matrix product in numpy
password
how do I hash a password with bcrypt?
reset password link expired
password: must be at least 12 characters
"password": {"type": "string", "minLength": 8}
def login(user, password): return check(user, password)
password = input("Password: ")
password = getpass.getpass()
password=os.environ["DB_PASSWORD"]
password: ${DB_PASSWORD}
password: "{{ vault_db_password }}"
password = None
password == confirm_password
if password != other_password: raise ValueError
<input type="password" name="password" placeholder="Password">
PASSWORD=<your password>
password='********'
passwordless login with SSH
the password is required
the password is wrong again
my password is too short
password is case sensitive
token = tokenizer.decode(ids)
token: str | None = None
tokens = text.split()
max_tokens=4096
prompt_tokens: 1234, completion_tokens: 567
the token is expired
token_type: "bearer"
tokens per second: 123.45
next_token = lexer.next()
token ids [101, 2023, 2003, 102]
api_key = os.getenv("OPENAI_API_KEY")
api_key=YOUR_API_KEY
api_key: "your-api-key-here"
apiKey: process.env.API_KEY
api_key="<key>"
where do I find my API key?
api key is missing
api_key=settings.openai_key
the secret of good soup
secret = secrets.token_hex(16)
secretName: my-app-tls
client_secret=CLIENT_SECRET
secret santa rules for 12 people
secret: true
key = "name"
primary key: id
foreign key (user_id) references users(id)
keyboard shortcuts
key: value
sort(key=lambda x: x[1])
public key cryptography explained
-----BEGIN PUBLIC KEY----- is how a public key starts
-----BEGIN CERTIFICATE-----
what is the difference between a private key and a public key?
ssh-keygen -t ed25519 -C comment
Bearer authentication is described in RFC 6750
bearer of bad news
Authorization: Bearer <token>
Authorization: Bearer $TOKEN
Authorization: Bearer YOUR_TOKEN
basic understanding of thermodynamics
Basic auth vs digest auth
basic internationalization
the bearer/holder distinction in law
https://example.com/path?x=1&y=2
https://user@example.com/
http://localhost:8080/a:b@c
see https://docs.python.org/3.11/library/re.html
s3://bucket/key/part-00001
postgres://localhost/test
postgres://user:${PASSWORD}@host/db
postgres://user:<password>@host/db
file:///etc/hosts
sk-learn is not a package, scikit-learn is
task-1234567890 and risk-assessment
desk-top-publishing
sk-proj is the prefix of project keys
AKIA is the prefix of AWS access keys
AIza starts Google keys
ghp_ starts a classic GitHub token
xoxb- is a Slack bot token prefix
npm_config_cache=/tmp/npm
npm_lifecycle_event
pypi-server is a package
pypi-mirror.example.com
hf_hub_download(repo_id="x", filename="y")
hf_transfer_enabled_for_all_downloads
sk_test_ keys are for testing
eyJ is the start of base64 JSON
eyJhbGciOiJIUzI1NiJ9 decodes to what?
base64: SGVsbG8gd29ybGQsIHRoaXMgaXMgYSB0ZXN0
VGhpcyBpcyBqdXN0IHRleHQgaW4gYmFzZTY0
data:image/png;base64,iVBORw0KGgoAAAANSUhEUg
CSS: .btn-primary:hover { color: #fff }
for (let i = 0; i < 1000000; i++) {}
SELECT id, name FROM users WHERE id IN (100, 200, 300)
UPDATE t SET x = 1234567 WHERE y = 7654321
INSERT INTO log VALUES (20240115, 103000, 'ok')
Traceback (most recent call last): File "app.py", line 123
java.lang.NullPointerException at com.acme.App.main(App.java:42)
segfault at 7f3c ip 00007f3c5a2b error 4 in libc-2.31.so
[ 12.345678] usb 1-1: new high-speed USB device number 2
Jan 15 10:30:00 host sshd[12345]: Accepted publickey
192 168 numbers in a list
latency p50 12.3 ms p99 123.4 ms
loss: 0.12345678 acc: 0.98765432
epoch 10/100 step 1000/12345
lr=3e-4, batch_size=256, seed=42
tensor([0.1234, 0.5678, 0.9012])
shape (1, 512, 768)
CUDA 12.4.1, driver 550.54.15
Linux 5.15.0-91-generic #101-Ubuntu
Windows 10.0.19045.3803
iOS 17.2.1 (21C66)
v1.2.3-rc.1+build.20240115
1.0.0-alpha.20240115103000
Bundesliga 2023/24, 34 matches
DIN EN ISO 9001:2015
IEEE 802.11ax-2021
§ 433 Abs. 1 BGB
Art. 6 (1) GDPR
tax rate 19 % and 7 %
CPU i7-13700K, RTX 4090
serial C02XK0AAJG5J
MAC 00:1A:2B:3C:4D:5E
IMEI 490154203237518
VIN WVWZZZ1JZXW000001
bank holiday on 2024-12-26
account number 12345678
customer number 4711-0815
ticket #1234567
JIRA-12345 and PR 98765
call function 12345 times
call the API 1000000 times
text has 12345678 characters
dial tone at 440 Hz
cell B12 to C34
tel aviv in spring
mobile first design
phone with 5000 mAh battery
the fax machine was invented in 1843
sms gateway pricing
ring buffer of 65536 entries
0800 hours
007 James Bond 1962
1-2-3 testing
2-1-1-2 formation
5-10-15 minutes
12-34-56 and 78-90-12
100-200-3000 range
000-00-0000 is the dummy
987-65-4321 begins with nine
666-12-3456 is never issued
123-456-789
DE12 is a postcode area
GB29 is a prefix
US12345678901234567890
AB12 CD34 EF56 GH78
NO1234567890123
4111 1111 1111 1112 fails the checksum
4532015112830367
1234 5678 9012 3456
9999 9999 9999 9999
0000 0000 0000 0000
6011 apples and 1117 pears
37 people and 10005 cats
""".splitlines()
"""Nothing in these is anybody's; most are mistaken for something by a looser pattern."""
