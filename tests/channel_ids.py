"""Ids of conversations as channels make them: phone numbers, WhatsApp by Twilio, Matrix, Teams, and others."""

CHANNEL_IDS = (
    "+84901234567",
    "whatsapp:+14155238886",
    "!room:matrix.org",
    "19:abc@thread.tacv2;messageid=161",
    "abc|0001",
    "AbC=",
    "a(b)*'c,d&e$f~g",
)
#: What is never part of an id: it would be part of a URL's structure, of a key's hash tag, or of another spelling.
REFUSED = (
    "/",
    "\\",
    "{",
    "}",
    " ",
    "\t",
    "\n",
    "\x00",
    "\x7f",
    "\xa0",
    "%",
    "?",
    "#",
    '"',
    "<",
    ">",
    "^",
    "`",
    "[",
    "]",
    "é",
)
