"""A ROS 2 node for exported models: images in, panoptic maps out. A sample that was not run here, since ROS 2 was not at hand.

    $ ros2 run ... or: python docs/ros2_node.py --ros-args -p instances:=models/solov2 -p semantics:=models/efficientps

Subscribes `image` (sensor_msgs/Image, rgb8 or bgr8); publishes `segment_ids` (32SC1: id of a pixel, 0 is void), `segments` (JSON:
id, category id, class, score) and `overlay` (rgb8). Of images that come while one is predicted, the newest is next.
"""

import json

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from evaluation.render import overlay
from prediction.pipeline import load_pipeline

NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def to_array(message: Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : 3 * message.width].reshape(message.height, message.width, 3)
    return np.ascontiguousarray(pixels[..., ::-1] if message.encoding == "bgr8" else pixels)


def to_message(array: np.ndarray, encoding: str, like: Image) -> Image:
    """An array as a message with the time and frame of another one."""
    height, width = array.shape[:2]
    return Image(header=like.header, height=height, width=width, encoding=encoding, step=array.strides[0], data=array.tobytes())


class PanopticNode(Node):
    """Predicts each image as it comes."""

    def __init__(self):
        super().__init__("panoptic")
        halves = {name: self.declare_parameter(name, "").value for name in ("instances", "semantics")}
        self.pipeline = load_pipeline(**{name: path for name, path in halves.items() if path})
        self.names = {c.dataset_id: c.name for c in self.pipeline.taxonomy.categories}
        self.ids = self.create_publisher(Image, "segment_ids", 1)
        self.segments = self.create_publisher(String, "segments", 1)
        self.overlay = self.create_publisher(Image, "overlay", 1)
        self.create_subscription(Image, "image", self.predict, NEWEST)

    def predict(self, message: Image) -> None:
        """One image."""
        image = to_array(message)
        panoptic = self.pipeline(image)
        found = [s.to_json() | {"class": self.names[s.category_id]} for s in panoptic.segments]
        self.ids.publish(to_message(panoptic.segment_ids.astype(np.int32), "32SC1", message))
        self.segments.publish(String(data=json.dumps(found)))
        self.overlay.publish(to_message(overlay(image, panoptic, self.pipeline.taxonomy, legend=False), "rgb8", message))


def main() -> None:
    """Spin until the end."""
    rclpy.init()
    rclpy.spin(PanopticNode())


if __name__ == "__main__":
    main()
