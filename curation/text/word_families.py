"""Words that fit the same place of a caption but cannot both be true there: our own lists for making negatives.

A line names a family; ``|`` parts what excludes one another, words between bars mean about the same and never take
each other's place. A minus marks words that are recognised only: rare, vague or doubtful ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from curation.knowledge.homonyms import word_set

_OBJECTS = """
sex: man guy -gentleman -dude -male | woman -lady -female
child: boy -son | girl -daughter
age: man -guy | child -kid -toddler -baby -girl
age: woman -lady | child -kid -toddler -baby -boy
parent: father -dad | mother -mom
couple: bride | groom
pet: dog -puppy -hound -canine | cat -kitten | rabbit -bunny | goat | pig
farm: horse -pony | cow -bull -calf | donkey | camel | goat | sheep -lamb
wild: elephant | bear | lion | tiger | zebra | giraffe | deer | monkey
water_bird: duck | goose | pigeon | swan | seagull | chicken
small_animal: bird | squirrel | butterfly | rabbit
car: car -automobile | truck | bus | van | train -subway
bike: motorcycle motorbike -dirtbike | bicycle -bike | scooter | skateboard
board: skateboard | snowboard | surfboard | sled
boat: canoe -kayak -boat | raft | surfboard
top: shirt -tshirt -t-shirt -blouse -jersey -uniform | jacket coat | sweater | vest | robe
bottom: shorts -short | jeans -pants -trousers -pant -jean
hat: hat -cap -beanie | helmet | headband | wig | crown
eyewear: sunglasses -glasses -sunglass | goggles -goggle -snorkel
shoe: boot | sandal | sneaker -shoe
neck: scarf | tie | necklace
carried: backpack | purse -handbag | suitcase | basket | bucket
handheld: umbrella | flag | balloon | camera | phone -cellphone | book | newspaper -paper | microphone | lantern
ball: ball -football -basketball -baseball -soccerball | frisbee -disc | stick | bone
sport: soccer football | basketball | baseball | tennis | volleyball | hockey | rugby
instrument: guitar | violin | drum | piano -keyboard | trumpet | accordion | saxophone | flute
seat: bench | chair | couch -sofa | table -desk | bed | stool
playground: slide | swing | trampoline | hammock | seesaw
surface: grass -lawn | sand -beach | snow | mud -dirt | gravel | water -river -ocean
terrain: forest -wood | field -meadow | desert
way: street -road -path -trail -sidewalk | beach -shore | bridge | dock -pier
indoor: kitchen | bedroom | bathroom | office | classroom | gym
venue: restaurant | church | museum | store -shop | library | school
body_of_water: ocean -sea -beach | lake -pond | river -stream -creek | pool | fountain
rock: rock -boulder -stone -cliff | log | fence -gate
barrier: wall | fence -gate | hedge
climb: mountain -cliff -rock -hill | ladder | tower | tree
building: house | church | barn | tent | castle
fruit: apple | banana | orange | pear | peach
dish: pizza | sandwich | burger | cake | salad
drink: beer | wine | coffee | milk | juice | tea
vessel: cup -mug -glass | bottle | bowl | plate
cutlery: knife | fork | spoon
tool: shovel | rake | broom | hammer
season: summer | winter | autumn
night: night -evening | noon -day
rider: cyclist -biker -bicyclist | runner -jogger | skateboarder -skater
snow_sport: skier | snowboarder | hiker
water_sport: surfer | kayaker | swimmer
staff: player | coach | referee
shape: circle -disc | square | triangle | star | cross | heart | diamond | ring -hoop
"""

_ATTRIBUTES = """
colour: red | blue | green | yellow | black | white | orange | pink | purple | brown | gray grey
fur: black | white | brown | gray -grey | tan -golden -yellow
hair_colour: blond blonde | brown -brunette | black | red | gray grey
size: big large -huge -giant | small -tiny -little
grown: young | old elderly -older
used: old | new
height: tall | short
length: long | short
wet: wet | dry
clean: clean | dirty -muddy
shut: open | closed
full: crowded busy | empty deserted
weather: sunny | cloudy -foggy | rainy
depth: shallow | deep
waves: rough | calm
mood: happy smiling -laughing | sad crying | angry
sex_of: male | female
where: indoor | outdoor
width: wide | narrow
light: dark | bright
ground: grassy | sandy | snowy -icy | rocky | muddy
material: wooden -wood | metal | stone | brick | concrete
pattern: striped | plaid -checkered -checked | spotted -dotted | floral | plain -solid
form: round | square
heat: hot | cold
awake: asleep | awake
"""

_ACTIONS = """
path: run -sprint -jog -race -dash | walk -stroll -wander | crawl | skip
place: stand -pose -wait | sit -perch | lie -lay -rest -relax -sleep | kneel
place_moving: -run -walk -jump -leap -play | stand | sit | kneel | sleep
over: jump -leap -hop -bound | crawl | climb
into: jump -leap -dive | crawl | walk -run | fall
at: look -stare -gaze | point | laugh -smile | wave
bare: smile -grin | frown -cry | yawn
bare: talk -chat -speak -stand | sing | dance | sleep
bare: swim -paddle -dive | wade | float
bare: dance | march | sleep
climb: climb -scale -ascend | descend
ball: throw -toss | catch -grab | kick | carry -hold -retrieve -fetch | hit
ball_animal: catch -bite -fetch -retrieve -grab | carry -hold | chase -follow | drop
clothes: wear -don | hold -carry | wash | fold
things: hold -carry -use | drop | throw | clean | paint
beings: hold -carry -hug -kiss -embrace | chase -follow -pursue | feed | wash -bathe | push
ridden: ride -drive | push -pull | repair | wash -clean | paint
ridden_path: ride -drive | push -pull
instrument: play | repair | paint | carry -hold
game: play | watch -see
food: eat -chew -bite -enjoy | cut -slice | serve | cook -prepare | sell
drunk: drink -sip | pour | serve | spill
read: read | fold | tear | burn
pushed: push -shove | pull -drag -tow
crossed: cross | block | sweep
open: open | close
raise: raise -lift | lower
enter: enter | leave -exit
load: load -fill | unload -empty
"""


class Family(NamedTuple):
    """A line of the lists.

    Attributes:
        name: Before the colon.
        members: Word -> number of its meaning.
        rivals: Word -> what excludes it and may take its place, in order.
    """

    name: str
    members: Mapping[str, int]
    rivals: Mapping[str, tuple[str, ...]]


def _read(lines: str) -> tuple[Family, ...]:
    found = []
    for line in lines.strip().splitlines():
        name, _, rest = line.partition(": ")
        groups = [part.split() for part in rest.split("|")]
        members = {word.lstrip("-"): number for number, group in enumerate(groups) for word in group}
        fills = [(word, number) for number, group in enumerate(groups) for word in group if word[0] != "-"]
        rivals = {word: tuple(fill for fill, other in fills if other != own) for word, own in members.items()}
        found.append(Family(name, members, rivals))
    return tuple(found)


@lru_cache(maxsize=1)
def objects() -> tuple[Family, ...]:
    """Return the families of things, living ones included."""
    return _read(_OBJECTS)


@lru_cache(maxsize=1)
def attributes() -> tuple[Family, ...]:
    """Return the families of describing words."""
    return _read(_ATTRIBUTES)


@lru_cache(maxsize=1)
def actions() -> tuple[Family, ...]:
    """Return the families of verbs; the name says in which frame they stand."""
    return _read(_ACTIONS)


@lru_cache(maxsize=65536)
def object_families(lemma: str) -> tuple[Family, ...]:
    """Return the families of things that a noun is in."""
    return tuple(family for family in objects() if lemma in family.members)


@lru_cache(maxsize=65536)
def attribute_families(word: str) -> tuple[Family, ...]:
    """Return the families of describing words that a word is in."""
    return tuple(family for family in attributes() if word in family.members)


@lru_cache(maxsize=65536)
def action_families(lemma: str) -> tuple[Family, ...]:
    """Return the families of verbs that a verb is in."""
    return tuple(family for family in actions() if lemma in family.members)


_HUMAN = word_set(
    "man guy gentleman male woman lady female boy girl child kid toddler baby person people player coach referee father dad "
    "mother mom bride groom couple adult teenager friend family worker biker cyclist runner skier snowboarder surfer "
    "climber hiker skateboarder skater rider swimmer kayaker crowd team group son daughter brother sister fan dancer "
    "singer performer musician firefighter soldier police officer policeman athlete wrestler boxer gymnast pedestrian tourist "
    "dude infant youngster student teacher bicyclist snowboarders cowboy clown jockey spectator pitcher batter"
)
_BEASTS = ("pet", "farm", "wild", "water_bird", "small_animal")


@lru_cache(maxsize=65536)
def is_human(lemma: str) -> bool:
    """Say whether a noun names a person or people, by our own list."""
    return lemma in _HUMAN


@lru_cache(maxsize=65536)
def is_beast(lemma: str) -> bool:
    """Say whether a noun names an animal, by our own list."""
    return lemma == "animal" or any(family.name in _BEASTS for family in object_families(lemma))
