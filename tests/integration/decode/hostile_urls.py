"""Addresses that lead where a worker must not go, or nowhere, and the codes they end in.

No connection is made for any of them: addresses are checked first.
"""

FORBIDDEN = frozenset({"source_forbidden"})
# Spellings that some resolvers take for a number and others for a name that does not exist.
EITHER = frozenset({"source_forbidden", "source_not_found", "source_unavailable"})
NOWHERE = frozenset({"source_not_found", "source_unavailable"})
WRONG = frozenset({"source_forbidden", "source_unsupported", "source_not_found"})

_PRIVATE = """
    127.0.0.1 127.0.0.1:6379 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.254 192.168.0.1 100.64.0.1 100.100.100.200
    169.254.169.254/latest/meta-data/iam 169.254.170.2 168.63.129.16/metadata 192.0.0.192 0.0.0.0 255.255.255.255
    224.0.0.1 239.255.255.250 240.0.0.1 198.18.0.1 192.0.2.1 [::1] [::] [::1]:8080 [fe80::1] [fc00::1]
    [fd00:ec2::254]/latest/meta-data [fec0::1] [ff02::1] [2001:db8::1] [::ffff:127.0.0.1] [::ffff:169.254.169.254]
    [::ffff:7f00:1] [::ffff:0a00:0001] [::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::169.254.169.254] [64:ff9b:1::808:808]
    [2002:7f00:1::] [2002:a9fe:a9fe::] [2001:0:53aa:64c:0:0:80ff:fffe] localhost localhost. LOCALHOST
    [3fff::1] [2001:4860::5efe:10.0.0.1] [2001:4860::200:5efe:a9fe:a9fe] [2002:808:808::5efe:a00:1]
    user:password@127.0.0.1 user@[::1] example.com@127.0.0.1 127.0.0.1#@example.com 127.0.0.1?@example.com
"""
_SPELLINGS = """
    2130706433 0x7f000001 0x7f.0.0.1 0x7f.1 0177.0.0.1 017700000001 127.1 127.0.1 0 0x0 3232235521 2852039166
    0xa9fea9fe 0251.0376.0251.0376 169.254.43518 1.1.1.1.127.0.0.1.invalid １２７.0.0.1 127。0。0。1 ①②⑦.0.0.1
    127.0.0.1%00.example.com 127.0.0.1%2523@x [::ffff:127.0.0.1%25eth0] [fe80::1%25lo]
"""
_NOWHERE = "voice.invalid nobody.invalid:8443/a.ogg xn--ls8h.invalid -.invalid"
_ELSEWHERE = """
    ftp://127.0.0.1/voice.ogg gopher://127.0.0.1:6379/_FLUSHALL dict://127.0.0.1:6379/info ldap://127.0.0.1/ tftp://x/y
    smb://127.0.0.1/share sftp://127.0.0.1/etc/passwd ssh://127.0.0.1 jar:http://127.0.0.1!/x redis://127.0.0.1:6379/0
    s3://secrets/voice.ogg gs://secrets/voice.ogg github://a:b@c/d local:///etc/passwd memory://x reference://x
    simplecache::file:///etc/passwd filecache::https://127.0.0.1/ zip://x::file:///etc/passwd concat:/etc/passwd|x
    subfile,,start,0,end,0,,:/etc/passwd pipe:0 fd:0 lavfi:sine rtmp://127.0.0.1/x rtsp://127.0.0.1/x udp://127.0.0.1:1
    crypto:file:///etc/passwd async:file:///etc/passwd cache:file:///etc/passwd hls+file:///etc/passwd unix:/var/run/x
    javascript:1 about:blank blob:x
"""
_BROKEN = ["https://", "https:///etc/passwd", "https://:443/", "https://[::1/", "https://x:99999/", "https://x:-1/"]
_BROKEN += ["https://a b/", "https://a\tb/", "https://a\nHost: b/", "https://\r\n/", "https://x:0/", "https:voice.ogg"]
_BROKEN += ["https://" + "a" * 300 + ".invalid/", "https://" + "a." * 200 + "invalid/", "https://x/\u202egepm.ogg\0"]

CASES: list[tuple[str, frozenset[str]]] = [
    *((f"https://{place}", FORBIDDEN) for place in _PRIVATE.split()),
    *((f"https://{place}/voice.ogg", EITHER) for place in _SPELLINGS.split()),
    *((f"https://{place}", NOWHERE) for place in _NOWHERE.split()),
    *((address, WRONG) for address in _ELSEWHERE.split()),
    *((address, EITHER) for address in _BROKEN),
    ("http://127.0.0.1/", FORBIDDEN),
    ("HTTP://example.invalid/", FORBIDDEN),
    *((f"{beginning}\ud800", NOWHERE) for beginning in ("", "https://", "data:,", "upload:", "file:///", "s3://b/")),
    ("data:", frozenset({"source_unsupported"})),
    ("data:audio/ogg", frozenset({"source_unsupported"})),
    ("data:audio/ogg;base64,!!!", frozenset({"source_unsupported"})),
    ("data:,", frozenset({"empty_source"})),
    ("data:;base64,", frozenset({"empty_source"})),
    ("data:audio/ogg;base64,AAAA", frozenset({"undecodable"})),
]
