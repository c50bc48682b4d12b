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
#: Characters that no id may have: they would change a URL's structure, a key's hash tag, or be another spelling.
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
