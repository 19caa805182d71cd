"""Words of photographs that have two lives: our own list, second to what a graph says of itself.

A graph that knows only one sense of a word cannot see that there is another: one that has ``crane IsA bird`` and
nothing of building sites would put wings on every crane. So each line names a word, its senses (classes of
`curation.knowledge.word_sense`), and the words that speak for each. A star marks the sense to assume when nothing speaks,
for words that are nearly always that in photographs; without a star, no evidence means no sense.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass


def word_set(text: str) -> frozenset[str]:
    """Return the words of a list written as one text."""
    return frozenset(text.split())


_LINES = """
bank | place: river water shore canoe snow stream fish kayak mud grass walk leap | institution: money building atm teller
bar | thing: gymnast gymnastics monkey hang swing metal climb playground | place: drink beer bartender stool glass pub | food: chocolate candy
bark | plant: tree trunk log wood
base | thing: baseball player slide run catch pitcher | place: mountain tower statue climb
basketball | thing: hold dribble shoot throw catch bounce dunk pass hand | event: play game watch
baseball | thing: hold throw catch hit pitch glove hand | event: play game watch
bat | animal: cave wing night dark upside roost insect vampire hang nocturnal | thing: baseball hit swing ball player pitch pitcher cricket softball batter uniform hold tee
bow | thing: arrow hair ribbon gift aim shoot pull archer violin wear neck tie head pink red archery | ship: boat ship bow sail
bowl | thing*: eat soup rice table drink | place: stadium skateboard skate skateboarder trick ramp
boxer | animal: puppy leash collar bark paw dog | person: ring fight punch glove referee match
bridge | place*: river water cross car | thing: nose guitar
bug | animal*: leaf insect | vehicle: volkswagen car
calf | animal: cow farm pasture rope rodeo | body: leg muscle tattoo
chicken | animal: farm coop feather peck yard feed rooster egg barn | food: eat plate fry grill rice table cook meal | toy: toy rubber squeaky dog plastic
club | place: dance drink music night party dj | thing: golf golfer swing ball juggle juggler
coach | person*: team player field game | vehicle: horse carriage passenger
court | place*: tennis basketball play player racket ball game | institution: judge lawyer
crane | animal: bird wing beak lake pond feather flock nest marsh leg ocean fly white | thing: construction building lift site worker cable steel tower load machine wakeboard wakeboarder
cup | thing*: drink coffee | award: trophy win
diamond | place: baseball team player base pitcher game field | thing: ring necklace jewelry | shape: sign
drill | thing: hole wood worker tool | event: team practice run player soldier
duck | animal: pond water feather swim wing beak bird feed lake river fly flap goose | toy: toy stuff stuffed rubber plush chew squeaky dog | food: roast plate
face | body*: eye smile paint | place: rock cliff climb climber
fan | person: crowd stadium team cheer game flag football | thing: hand ceiling air electric blade hot
fish | animal*: swim tank aquarium hook net pond catch | food: plate eat cook grill fry chip
football | thing: hold throw catch carry run kick ball player tackle pass | event: play game watch match
glass | thing: drink wine beer water juice hold table | substance: window door wall see blow pane press
glasses | thing: wear face eye nose woman man read sun black sunglasses | drink: drink wine beer toast table waiter
grass | plant*: field
gum | food*: chew | body: tooth
gym | place*: play exercise basketball
hot dog | food*: eat bun
hood | thing*: wear jacket coat sweatshirt head car
horn | body: animal goat bull cow ram sheep deer head | thing: play band music musician brass car jazz
jam | food: bread toast jar spread | event: music band
jersey | thing*: wear player team red football | animal: cow
keyboard | thing*: play type computer
kid | person*: play child school | animal: goat farm
kite | thing*: string fly sky wind | animal: bird prey nest
lab | animal: dog black yellow run ball fetch | place: scientist microscope
lap | body: sit | event: swim race track
lead | substance: metal pipe | thing: leash
log | thing*: wood tree fire snow
match | event: tennis play player wrestle soccer | thing: light fire flame
mole | animal: dig hole | body: face skin cheek
mouse | animal: cheese cat hole tail trap rodent cage field | thing: computer keyboard desk click screen pad | character: mickey costume ear
nail | thing: hammer wood | body: finger paint polish toe
net | thing*: ball fish volleyball tennis hockey goal
nut | food: eat squirrel bowl | thing: bolt wrench
orange | food: eat peel juice fruit slice bowl basket | colour: wear shirt jacket
organ | thing: play music church | body: heart
palm | plant: tree beach leaf tropical sand ocean | body: hand hold finger
park | place*: bench tree play
patch | place*: grass pumpkin
pen | thing: write paper ink | place: pig sheep animal farm
pipe | thing*: smoke music metal
pitcher | person: baseball ball throw mound team player glove batter softball | thing: water pour milk lemonade drink table juice
plant | plant*: leaf pot garden green | place: factory
plate | thing*: eat food table | base: baseball home batter catcher
pool | place*: swim water dive splash | event: cue table billiard ball
punch | event*: boxer fight glove | drink: bowl cup
racket | thing*: tennis ball hit player
ram | animal: horn sheep mountain | team: football player
ring | place: boxer box fight horse wrestle wrestler ride referee bull circus punch | thing: finger wedding bride jewelry toy gold gymnast diamond colored
rock | substance*: climb water mountain sit stand cliff climber river | event: band guitar music concert singer star
rose | plant*: flower garden
saw | thing*: cut wood
seal | animal: swim water zoo aquarium beach fish ocean rock bark sea tank | thing: envelope stamp letter wax
shell | thing: beach sand sea | body: turtle snail
slide | thing*: playground child water climb park
spring | event: season | thing: coil mattress | place: water hot
squash | food: vegetable eat plate pumpkin garden | event: racket court play
stall | place*: market vendor sell horse
star | person: rock movie | object: sky night
stick | thing*: dog mouth wood fetch carry
suit | thing*: wear tie
swing | thing*: playground child tire rope push park sit
table | thing*: sit eat
tank | thing: army soldier war fish water aquarium top
tie | thing*: wear suit shirt neck | event: score
toast | food: bread butter breakfast | event: glass raise wine wedding
track | place*: run race runner train athlete racer horse car dirt bike | trace: snow foot
trunk | plant: tree climb wood branch bark | body: elephant animal zoo | thing: car luggage suitcase
turkey | animal: farm feather field wild | food: thanksgiving eat plate carve oven
watch | thing: wrist arm wear
water | substance*: swim river lake splash
wave | object*: surf surfer ocean beach sea water surfboard
yard | place*: grass dog play
"""


@dataclass(frozen=True, slots=True)
class Homonym:
    """A word with several senses: the words that speak for each, and the sense to assume otherwise, or empty."""

    senses: Mapping[str, frozenset[str]]
    assumed: str = ""


@functools.lru_cache(maxsize=1)
def homonyms() -> Mapping[str, Homonym]:
    """Return our homonyms by word."""
    found = {}
    for line in _LINES.strip().splitlines():
        word, *senses = (part.strip() for part in line.split("|"))
        named = dict(sense.split(":") for sense in senses)
        assumed = next((name[:-1] for name in named if name.endswith("*")), "")
        found[word] = Homonym({name.rstrip("*"): word_set(cues) for name, cues in named.items()}, assumed)
    return found
