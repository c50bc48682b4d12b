"""The same words in other dresses: how keyboards, channels and providers write one text."""

import unicodedata

#: By what differs: two texts of the same words. The first is as most people send it.
DRESSES = {
    "NFD": ("Tôi bị đau đầu từ hôm qua", unicodedata.normalize("NFD", "Tôi bị đau đầu từ hôm qua")),
    "NFC of another order": ("ệ", "e\u0323\u0302"),
    "Hangul": ("머리가 아파요", unicodedata.normalize("NFD", "머리가 아파요")),
    "a compatible sign": ("5 Å", "5 \u212b"),
    "CRLF": ("one\ntwo\n\nthree", "one\r\ntwo\r\n\r\nthree"),
    "CR": ("one\ntwo", "one\rtwo"),
    "blanks at the ends": ("I took 2 pills", " \n\tI took 2 pills \r\n"),
    "no-break space": ("37,5 °C", "37,5\xa0°C"),
    "narrow no-break space": ("10 000 mg", "10\u202f000 mg"),
    "figure space": ("10 mg", "10\u2007mg"),
    "ideographic space": ("頭 痛い", "頭\u3000痛い"),
    "no-break space at the end": ("Hello", "Hello\xa0"),
    "all at once": ("Tôi bị\nđau 2 ngày", "\xa0" + unicodedata.normalize("NFD", "Tôi bị\r\nđau\xa02 ngày") + "\r\n"),
}
#: What only looks alike: other words.
OTHERS = {
    "case": ("yes", "Yes"),
    "accents": ("ban", "bạn"),
    "blanks within": ("a b", "a  b"),
    "a line": ("a b", "a\nb"),
    "width": ("5 mg", "５ mg"),
    "ligature": ("fi", "ﬁ"),
    "superscript": ("m2", "m²"),
    "a tab": ("a b", "a\tb"),
}
