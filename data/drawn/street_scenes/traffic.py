"""Where the things of a street are: vehicles on lanes and in bays, riders, people, and groups of them."""

from collections.abc import Callable

import numpy as np

from data.drawn.street_scenes import figures, vehicles
from data.drawn.street_scenes.drawing import Canvas
from data.drawn.street_scenes.layout import Lane, Layout


def add_traffic(layout: Layout, times: int = 1) -> None:
    """Trams, vehicles, riders and people, in this order, all but trams `times` over: who comes first gets the room."""
    _add_trains(layout)
    for _ in range(times):
        _add_vehicles(layout)
        _add_two_wheelers(layout)
        _add_people(layout)


def _add_vehicle(layout: Layout, vehicle: vehicles.Vehicle, lane: Lane, near: float, far: float) -> bool:
    """Put a vehicle on a lane where there is room."""
    for _ in range(8):
        z = layout.depth(lane.offset, near, far) + vehicle.length / 2
        if lane.take(z - vehicle.length / 2 - 0.6, vehicle.length + 1.2 + (0 if lane.is_parking else 4.0)):
            yaw = lane.yaw + layout.bend.yaw(z) + layout.uniform(-0.03, 0.03)
            offset = lane.offset + layout.uniform(-0.2, 0.2)
            layout.put(offset, z, vehicles.paint_vehicle, vehicle, yaw, reach=vehicle.length / 2)
            return True
    return False


def _add_trains(layout: Layout) -> None:
    """A tram on the rails, where there are rails."""
    for strip in layout.ground.strips:
        if strip.label == "rail track" and layout.chance(0.9):
            lane = Lane(strip.right - 1.2, np.pi if layout.chance(0.5) else 0.0, False)
            _add_vehicle(layout, vehicles.make_train(layout.rng), lane, 9, 50)


def _add_vehicles(layout: Layout) -> None:
    """Big vehicles first, then cars, then what is rare or far."""
    rng = layout.rng
    driving = [lane for lane in layout.lanes if not lane.is_parking]
    parking = [lane for lane in layout.lanes if lane.is_parking]
    for make, probability in ((vehicles.make_truck, 0.45), (vehicles.make_bus, 0.62), (vehicles.make_truck, 0.08)):
        if layout.chance(probability):
            lane = driving[int(rng.integers(len(driving)))]
            _add_vehicle(layout, make(rng), lane, 8 if lane.yaw else 12, 45)
    for _ in range(int(rng.integers(2, 6))):
        lanes = parking if parking and layout.chance(0.6) else driving
        lane = lanes[int(rng.integers(len(lanes)))]
        _add_vehicle(layout, vehicles.make_car(rng), lane, 5 if lane.offset else 7.5, 60)
    if parking and layout.chance(0.12):
        label = "caravan" if layout.chance(0.5) else "trailer"
        _add_vehicle(layout, vehicles.make_caravan(rng, label), parking[0], 8, 40)
    for side, start, end in layout.ground.side_streets:
        if layout.chance(0.5):
            yaw = np.pi / 2 * (1 if layout.chance(0.5) else -1)
            layout.put(side * layout.uniform(7, 16), (start + end) / 2, vehicles.paint_vehicle, vehicles.make_car(rng), yaw)
    if layout.chance(0.35):
        offset, z = layout.uniform(-4, 4), layout.uniform(70, 110)
        cars = [(vehicles.make_car(rng), layout.bend.at(offset + 2.3 * k, z + 3 * k)) for k in range(int(rng.integers(2, 5)))]
        layout.add(offset, z, paint_car_group, cars[::-1])


def paint_car_group(canvas: Canvas, cars: list) -> None:
    """Far cars that nobody told apart."""
    for vehicle, place in cars:
        grouped = vehicles.Vehicle("", vehicle.bodies, vehicle.length, vehicle.wheels)
        vehicles.paint_vehicle(canvas, place, grouped, 0.1)
    canvas.label("cargroup")


def _add_two_wheelers(layout: Layout) -> None:
    """Riders in traffic, and bicycles and motorcycles left at the kerb."""
    rng = layout.rng
    for is_motorcycle, probability in ((False, 0.6), (False, 0.35), (True, 0.7)):
        if not layout.chance(probability):
            continue
        lane = layout.lanes[int(rng.integers(len(layout.lanes)))]
        if layout.chance(0.3):
            lane = Lane(layout.uniform(*layout.sidewalks[1 if layout.chance(0.5) else -1]), 0.0, False)
        for _ in range(6):
            z = layout.depth(lane.offset, 5, 20)
            if lane.take(z - 1.2, 2.4):
                _add_rider(layout, lane.offset + layout.uniform(-1.2, 1.2), z, is_motorcycle)
                break
    for make, probability, label in ((figures.make_bicycle, 0.6, "bicycle"), (figures.make_motorcycle, 0.5, "motorcycle")):
        if not layout.chance(probability):
            continue
        side = 1 if layout.chance(0.5) else -1
        inner, outer = sorted(layout.sidewalks[side], key=abs)
        offset = inner + side * 0.5 if layout.chance(0.5) else outer - side * 0.4
        z = layout.depth(offset, 5, 18)
        for k in range(int(rng.integers(1, 4))):
            figure = make_turned(layout, make, layout.uniform(0.6, 1.0))
            layout.put(offset + layout.uniform(-0.2, 0.2), z + 1.3 * k, figures.paint_figure, figure, label)
    if layout.chance(0.22):
        side = 1 if layout.chance(0.5) else -1
        offset = layout.sidewalks[side][1 if side > 0 else 0] - side * 0.7
        z = layout.depth(offset, 10, 35)
        count = int(rng.integers(4, 8))
        places = [layout.bend.at(offset + layout.uniform(-0.3, 0.3), z + 0.5 * k) for k in range(count)]
        members = [(make_turned(layout, figures.make_bicycle, 0.7), place) for place in places]
        layout.add(offset, z, paint_group, members[::-1], "bicyclegroup")


def make_turned(layout: Layout, make: Callable, narrow: float) -> figures.Figure:
    """A two-wheeler that faces left or right."""
    figure = make(layout.rng, narrow)
    return figures.mirrored(figure) if layout.chance(0.5) else figure


def _add_rider(layout: Layout, offset: float, z: float, is_motorcycle: bool) -> None:
    """A rider on a vehicle of the same heading; two instances, the rider in front."""
    rng = layout.rng
    narrow = layout.uniform(0.1, 0.5) if layout.chance(0.2) else layout.uniform(0.6, 1.0)
    vehicle = (figures.make_motorcycle if is_motorcycle else figures.make_bicycle)(rng, narrow)
    rider = figures.make_rider(rng, narrow, is_motorcycle)
    if layout.chance(0.5):
        vehicle, rider = figures.mirrored(vehicle), figures.mirrored(rider)
    layout.put(offset, z + 0.01, figures.paint_figure, vehicle, "motorcycle" if is_motorcycle else "bicycle")
    layout.put(offset, z, figures.paint_figure, rider, "rider", False)


def _add_people(layout: Layout) -> None:
    """Pedestrians on the sidewalks, on the crossing, and sometimes a far crowd."""
    rng = layout.rng
    for _ in range(int(rng.integers(2, 7))):
        side = 1 if layout.chance(0.55) else -1
        offset = layout.uniform(*layout.sidewalks[side])
        z = layout.depth(offset, 5, 24)
        if layout.ground.zebra is not None and layout.ground.zebra < 22 and layout.chance(0.4):
            offset, z = layout.uniform(*layout.ground.road), layout.ground.zebra + layout.uniform(0.3, 2.7)
        elif layout.chance(0.12):
            offset, z = layout.uniform(*layout.ground.road), layout.uniform(9, 25)
        for _ in range(1 + int(layout.chance(0.25))):
            layout.put(offset, z, figures.paint_figure, figures.make_person(rng), "person")
            offset, z = offset + layout.uniform(0.5, 0.7), z + layout.uniform(-0.3, 0.3)
    if layout.chance(0.3):
        side = 1 if layout.chance(0.5) else -1
        offset, z = layout.uniform(*layout.sidewalks[side]), layout.uniform(28, 60)
        count = int(rng.integers(4, 9))
        members = [(figures.make_person(rng), layout.bend.at(offset + 0.35 * k, z + layout.uniform(0, 1))) for k in range(count)]
        layout.add(offset, z, paint_group, members, "persongroup")


def paint_group(canvas: Canvas, members: list, label: str) -> None:
    """Figures that share one outline."""
    for k, (figure, place) in enumerate(members):
        figures.paint_figure(canvas, place, figure, label, closes=k == len(members) - 1)
