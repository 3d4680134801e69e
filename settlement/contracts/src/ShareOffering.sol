// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IShareOffering} from "./IShareOffering.sol";
import {MachineShares} from "./MachineShares.sol";

/**
 * @title ShareOffering
 * @notice See {IShareOffering}. It never holds shares or tokens.
 */
contract ShareOffering is IShareOffering, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    // -------------------------------------------------------------------------------------- Constants, immutables

    bytes32 public constant TERMS_TYPEHASH = keccak256(
        "Terms(uint256 chainId,address shares,bytes32 machine,uint16 points,uint64 termEnd,uint64 lockedUntil,bytes32 agreement)"
    );

    /// @inheritdoc IShareOffering
    MachineShares public immutable shares;

    /// @inheritdoc IShareOffering
    IERC20 public immutable token;

    /// @inheritdoc IShareOffering
    address public immutable seller;

    /// @inheritdoc IShareOffering
    uint256 public immutable price;

    /// @inheritdoc IShareOffering
    uint256 public immutable cap;

    /// @inheritdoc IShareOffering
    uint256 public immutable closesAt;

    /// @inheritdoc IShareOffering
    bytes32 public immutable termsHash;

    uint16 private immutable _points;
    uint64 private immutable _termEnd;
    uint64 private immutable _lockedUntil;
    bytes32 private immutable _agreement;

    // ------------------------------------------------------------------------------------------------ Storage

    /// @inheritdoc IShareOffering
    uint256 public sold;

    bool private _closed;

    // -------------------------------------------------------------------------------------------- Constructor

    /// @notice The caller is the seller, so the terms are its own word.
    /// @param closesAt_ from then on nothing is sold: in the future, not after the term's end
    constructor(MachineShares shares_, uint256 price_, uint256 cap_, uint256 closesAt_, Terms memory terms_) {
        if (price_ == 0) revert PriceZero();
        uint256 supply = shares_.totalSupply();
        if (cap_ == 0 || cap_ > supply) revert CapOutOfRange(cap_, supply);
        if (closesAt_ <= block.timestamp || closesAt_ > terms_.termEnd) revert TimesInvalid(closesAt_, terms_.termEnd);
        if (terms_.points == 0 || terms_.points > 10_000) revert PointsOutOfRange(terms_.points);
        if (terms_.lockedUntil < terms_.termEnd) revert LockTooShort(terms_.lockedUntil, terms_.termEnd);

        (shares, token, seller) = (shares_, shares_.token(), msg.sender);
        (price, cap, closesAt) = (price_, cap_, closesAt_);
        (_points, _termEnd, _lockedUntil, _agreement) =
            (terms_.points, terms_.termEnd, terms_.lockedUntil, terms_.agreement);
        bytes32 machine = keccak256(bytes(shares_.machine()));
        termsHash = keccak256(abi.encode(TERMS_TYPEHASH, block.chainid, shares_, machine, terms_));

        emit OfferingOpened(address(shares_), msg.sender, price_, cap_, closesAt_, terms_, termsHash);
    }

    // ----------------------------------------------------------------------------------------------- External

    /// @inheritdoc IShareOffering
    function buy(uint256 amount, uint256 maxCost) external nonReentrant returns (uint256 cost) {
        if (_isOver()) revert SaleOver();
        if (msg.sender == seller) revert SellerBuys();
        if (amount == 0) revert AmountZero();
        if (amount > cap - sold) revert CapReached(amount, cap - sold);
        cost = amount * price;
        if (cost > maxCost) revert CostTooHigh(cost, maxCost);

        sold += amount;

        token.safeTransferFrom(msg.sender, seller, cost);
        IERC20(address(shares)).safeTransferFrom(seller, msg.sender, amount);

        emit SharesBought(msg.sender, amount, cost);
    }

    /// @inheritdoc IShareOffering
    function close() external {
        if (msg.sender != seller) revert NotSeller(msg.sender);
        if (_isOver()) revert SaleOver();

        _closed = true;

        emit OfferingClosed(sold);
    }

    // -------------------------------------------------------------------------------------------------- Views

    /// @inheritdoc IShareOffering
    function available() external view returns (uint256) {
        if (_isOver()) return 0;
        uint256 held = Math.min(shares.balanceOf(seller), shares.allowance(seller, address(this)));
        return Math.min(cap - sold, held);
    }

    /// @inheritdoc IShareOffering
    function terms() external view returns (Terms memory) {
        return Terms(_points, _termEnd, _lockedUntil, _agreement);
    }

    // ----------------------------------------------------------------------------------------------- Internal

    function _isOver() private view returns (bool) {
        return _closed || block.timestamp >= closesAt;
    }
}
