"""Lists of words that the rows look things up in."""

from __future__ import annotations


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Acronyms that are said as words, or whose capitals the writer uses for a name.
ACRONYMS = words_of(
    """NASA NATO UNESCO UNICEF OPEC ASEAN AIDS COVID SARS MERS FIFA UEFA NAFTA DARPA NOAA OSHA FEMA HIPAA
    SWAT NASDAQ IKEA ASCII BIOS GIF RAM ROM PIN SIM LAN WAN JSON YAML CUDA SAT MIDI LASER RADAR SONAR
    SCUBA LIDAR YOLO FOMO LOL POTUS SCOTUS FLOTUS BAFTA PETA BASIC COBOL LISP SIDS TIFF MAC UNIX LINUX
    GNU ZIP TED CERN EBITDA MENSA"""
)
# Those that are read by letters; here because they could be said as words, or stand among shouted ones.
INITIALISMS = words_of(
    """FBI CIA NSA USA UK EU UN USSR UAE UCLA MIT NYU BBC CNN NBC CBS ABC ESPN IBM HP BMW AI AGI API GPU CPU
    TPU HTML HTTP HTTPS URL USB PDF SQL CSS XML PHP IP TV DVD CD PC DNA RNA HIV CEO CFO CTO COO VIP FAQ
    DIY ATM GPS ETA ASAP FYI RSVP RIP PS AC DC BC AD BCE CE NFL NBA MLB NHL IRS DMV LGBT LGBTQ IQ EQ ID
    IOU UFO UTC GMT EST PST AKA NYPD LAPD LA NYC ICU ER IV IEEE UI UX OS VR AR HR PR IPO GDP NGO EPA FDA
    CDC IMF WTO IVF AAA AOL OECD IAEA USPS USDA USAF UPS AMD OLED UEFI BA MA ISBN ISSN UNHCR AARP NAACP
    USMC MSRP"""
)
# By letters where they stand alone, words where everything around is shouted.
EITHER = words_of("US IT WHO PM")
# What a writer may stress with capitals, among words too short to be told from initialisms.
SHORT_WORDS = words_of(
    """A I AM AN AND ANY ARE AS AT BAD BE BIG BOY BUT BUY BY CAN DAD DAY DID DIE DO DOG END EVER FAR FOR FUN
    GET GO GOD GOT HAD HAS HE HER HEY HIM HIS HOT HOW IF IN IS JOB JOY KEY LET LIE LOT LOW MAD MAN MAY ME
    MEN MOM MY NEW NO NOT NOW OF OFF OH OLD ON ONE OR OUR OUT OWN PAY PUT RUN SAD SAY SEE SET SHE SIR SIT
    SIX SO SON SUN TEN THE TO TOO TOP TRY TWO UP USE WAR WAS WAY WE WET WHY WIN WON WOW YES YET YOU ALL
    ADD ASK ATE BED BOX CAR CUT EAT EYE FEW FIX FLY HIT HUG ICE ILL LEG MET MIX NOR NUT ODD PEN PET RED
    SEA SKY TEA TIE TOY VAN"""
)
RESPELLED = {
    "OK": "okay",
    "PhD": "P H D",
    "PhDs": "P H D's",
    "iOS": "i O S",
    "macOS": "mac O S",
    "TODO": "to do",
    "JPEG": "J peg",
    "JPG": "J peg",
}

# A Roman numeral after these says which of the name: Henry the eighth.
KINGS = words_of(
    """Henry Louis George Edward Richard William James Charles Elizabeth Mary Catherine Peter Alexander
    Nicholas Napoleon Frederick Philip Francis John Paul Pius Benedict Gregory Leo Clement Urban Innocent
    Boniface Ramses Ramesses Ptolemy Cleopatra Otto Ivan Ferdinand Joseph Maximilian Leopold Albert
    Victor Emmanuel Umberto Carlos Alfonso Harald Haakon Gustav Christian Wilhelm Friedrich Ludwig Rudolf
    Xerxes Darius Mehmed Murad Selim Robert Constantine Justinian Theodosius David Malcolm Stephen
    Isabella Margaret Anne Christina"""
)
# After these it counts: Chapter four.
PARTS = words_of(
    """Chapter Part War Act Scene Volume Book Type Phase Stage Title Section Article Appendix Bowl Class
    Figure Level Mark Episode Series Season Grade Canto Psalm Table Unit Item Step Division Region Group
    Category Factor Apollo Saturn Rocky Fantasy Game Movement Symphony Page Pages Equation Edition
    Volumes Figures"""
)
ALWAYS_COUNTED = words_of("War Type Phase Stage Class Grade Category")  # even an I: "Type I error"

# What a number of four digits counts, so that it is no year.
COUNTED = (
    "people|men|women|children|times|dollars|pounds|euros|cents|points|votes|years|months|weeks|days|hours|minutes"
    "|seconds|miles|metres|meters|feet|steps|items|pages|words|characters|users|students|calories|copies|soldiers"
    "|employees|degrees|bytes|different|or more|per"
)
# What is called by a number and not counted by it: room one oh one.
NAMED_BY_NUMBER = (
    r"rooms?|rm\.|rte\.|hwy\.|suite|apartment|apt\.?|flight|route|highway|interstate|bus|gate|building|unit|boeing|airbus|channel"
    "|locker|error|line"
)
