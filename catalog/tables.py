"""Products, the categories that they stand in, and what they cost in each store."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from kit.db import id_type, metadata

products = Table(
    "products",
    metadata,
    Column("sku_id", id_type(), primary_key=True),
    Column("external_id", id_type(), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("brand", Text),
    Column("unit", Text, nullable=False),
    Column("weight_g", Integer, nullable=False),
    Column("volume_ml", Integer),
    Column("tax_class", Text, nullable=False),
    Column("tax_rate_bp", Integer, nullable=False),
    Column("temperature", Text, nullable=False),
    Column("barcode", id_type(), nullable=False, unique=True),
    Column("image_url", Text, nullable=False),
    Column("shelf_life_days", Integer),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("weight_g >= 0", name="weight"),
    CheckConstraint("tax_rate_bp BETWEEN 0 AND 10000", name="tax_rate"),
)

categories = Table(
    "categories",
    metadata,
    Column("slug", id_type(), primary_key=True),
    Column("title", Text, nullable=False),
)

product_categories = Table(
    "product_categories",
    metadata,
    Column("sku_id", id_type(), ForeignKey("products.sku_id"), primary_key=True),
    Column("category", id_type(), ForeignKey("categories.slug"), primary_key=True),
    Index("ix_product_categories_category_sku_id", "category", "sku_id"),
)

prices = Table(
    "prices",
    metadata,
    Column("store_id", id_type(), ForeignKey("stores.id"), primary_key=True),
    Column("sku_id", id_type(), ForeignKey("products.sku_id"), primary_key=True),
    Column("price_minor", Integer, nullable=False),
    Column("list_price_minor", Integer, nullable=False),
    Column("currency", id_type(), nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("price_minor > 0 AND price_minor <= list_price_minor", name="price"),
)
