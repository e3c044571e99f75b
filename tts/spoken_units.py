"""Money and measures by their signs: one and many of each.

Units are spelled as in America: the sound is the same, and recognisers, which judge the speech, write it so.
"""

from __future__ import annotations

CURRENCIES = {  # one, many, a hundredth, many of those
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "¢": ("cent", "cents", "", ""),
    "p": ("penny", "pence", "", ""),
    "USD": ("U S dollar", "U S dollars", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "GBP": ("pound", "pounds", "penny", "pence"),
    "JPY": ("yen", "yen", "", ""),
    "CHF": ("Swiss franc", "Swiss francs", "", ""),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "INR": ("rupee", "rupees", "paisa", "paise"),
    "CNY": ("yuan", "yuan", "", ""),
}
DOLLARS_OF = {
    "US": "U S ",
    "C": "Canadian ",
    "CA": "Canadian ",
    "A": "Australian ",
    "AU": "Australian ",
    "NZ": "New Zealand ",
    "HK": "Hong Kong ",
}

# As written, small letters and capitals apart; several ways of writing are separated by spaces.
_REGULAR = {
    "km KM Km": "kilometer",
    "m": "meter",
    "cm CM": "centimeter",
    "mm MM": "millimeter",
    "µm um": "micrometer",
    "nm": "nanometer",
    "mi": "mile",
    "yd yds": "yard",
    "kg KG Kg kgs": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "µg ug mcg": "microgram",
    "lb lbs Lbs LBS": "pound",
    "oz": "ounce",
    "l L": "liter",
    "ml mL": "milliliter",
    "cl cL": "centiliter",
    "dl dL": "deciliter",
    "gal": "gallon",
    "floz": "fluid ounce",
    "tsp": "teaspoon",
    "tbsp": "tablespoon",
    "s sec secs": "second",
    "ms": "millisecond",
    "µs": "microsecond",
    "ns": "nanosecond",
    "min mins": "minute",
    "h hr hrs": "hour",
    "wk wks": "week",
    "mo": "month",
    "yr yrs": "year",
    "ha": "hectare",
    "W": "watt",
    "kW KW": "kilowatt",
    "MW": "megawatt",
    "GW": "gigawatt",
    "Wh": "watt hour",
    "kWh KWh": "kilowatt hour",
    "mAh": "milliamp hour",
    "mA": "milliamp",
    "V": "volt",
    "mV": "millivolt",
    "kV": "kilovolt",
    "J": "joule",
    "kJ": "kilojoule",
    "cal": "calorie",
    "kcal": "kilocalorie",
    "Pa": "pascal",
    "hPa": "hectopascal",
    "kPa": "kilopascal",
    "dB": "decibel",
    "KB kB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "KiB": "kibibyte",
    "MiB": "mebibyte",
    "GiB": "gibibyte",
    "px": "pixel",
    "pts": "point",
    "Ω ohm": "ohm",
    "kΩ": "kilohm",
    "° deg": "degree",
    "mol": "mole",
}
_IRREGULAR = {
    "ft Ft": ("foot", "feet"),
    "in": ("inch", "inches"),
    "Hz": ("hertz", "hertz"),
    "kHz KHz": ("kilohertz", "kilohertz"),
    "MHz Mhz": ("megahertz", "megahertz"),
    "GHz Ghz": ("gigahertz", "gigahertz"),
    "K": ("kelvin", "kelvin"),
    "mph MPH": ("mile per hour", "miles per hour"),
    "kph kmh": ("kilometer per hour", "kilometers per hour"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "bpm": ("beat per minute", "beats per minute"),
    "fps": ("frame per second", "frames per second"),
    "dpi": ("dot per inch", "dots per inch"),
    "psi": ("pound per square inch", "pounds per square inch"),
    "ppm": ("part per million", "parts per million"),
    "kbps Kbps": ("kilobit per second", "kilobits per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"),
    "sqft": ("square foot", "square feet"),
    "bar": ("bar", "bar"),
    "%": ("percent", "percent"),
    "‰": ("per mille", "per mille"),
}
UNITS: dict[str, tuple[str, str]] = {
    **{form: (one, f"{one}s") for forms, one in _REGULAR.items() for form in forms.split()},
    **{form: names for forms, names in _IRREGULAR.items() for form in forms.split()},
}
LENGTHS = frozenset(["km", "m", "cm", "mm", "µm", "nm", "mi", "yd", "ft", "in"])
# With a space before them these are rather words: "5 in the morning".
ATTACHED = frozenset(["in", "mo"])
_THINGS = (
    "month year week day hour minute second person unit mile night user seat head share kilo gallon liter"
)
# What an amount may be counted by, after a slash.
PER = {form: one for form, (one, _) in UNITS.items()} | {
    word: word for word in f"{_THINGS} pound ton token page word".split()
}
